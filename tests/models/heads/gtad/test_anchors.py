"""The map of anchors: its durations, and which anchors a window has."""

from itertools import pairwise

import torch

from tadscale.models.heads.gtad.anchors import anchor_steps, anchors_exist, spaced_durations


def test_every_duration_where_no_overlap_may_be_lost():
    assert spaced_durations(64, 1.0) == list(range(1, 65))


def test_neighbouring_durations_overlap_as_asked():
    durations = spaced_durations(500, 0.8)
    assert durations[0] == 1
    assert durations[-1] <= 500 < durations[-1] / 0.8 + 1
    assert all(shorter / longer >= 0.8 or longer == shorter + 1 for shorter, longer in pairwise(durations))
    assert len(durations) < 30


def test_anchors_are_those_within_the_valid_steps():
    durations, valid = [1, 2, 5], [7, 4, 0]
    mask = torch.arange(7) < torch.tensor(valid).unsqueeze(1)  # [3, 7]
    anchors = anchor_steps(torch.tensor(durations), 7)
    exist = anchors_exist(anchors, mask)
    for row, duration in enumerate(durations):
        for start in range(7):
            assert anchors[row, start].tolist() == [start, start + duration]
            for window, count in enumerate(valid):
                assert exist[window, row, start] == (start + duration <= count)
