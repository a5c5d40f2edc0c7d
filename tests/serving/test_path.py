import numpy as np
import pytest
import torch

from tadscale.metrics.nms import NmsConfig
from tadscale.models.heads.base import WindowDetections
from tadscale.network import InferenceConfig
from tadscale.segments import Detection
from tadscale.serving.path import DetectionPath
from tests.serving.tiny import SPEC

KEEP_ALL = NmsConfig(method="none", min_score=0.0)


def merge(windows, duration_s: float, nms: NmsConfig) -> list[Detection]:
    path = DetectionPath(SPEC.window, InferenceConfig(nms=nms), ("jump", "run"))
    return path.merge(windows, video="v", duration_s=duration_s)


def segments(found: list[Detection]) -> list[list[float]]:
    return [[row.start_s, row.end_s] for row in found]


def window(*rows: tuple[float, float, float, int]) -> WindowDetections:
    columns = torch.tensor([row[:3] for row in rows]).reshape(-1, 3)
    return WindowDetections(columns[:, :2], columns[:, 2], torch.tensor([row[3] for row in rows], dtype=torch.int64))


def test_window_frames_become_seconds_of_the_video() -> None:
    found = merge([(0, window((2, 4, 0.5, 0))), (30, window((0, 5, 0.9, 1)))], 9.0, KEEP_ALL)
    np.testing.assert_allclose(segments(found), [[3.0, 3.5], [0.2, 0.4]])
    np.testing.assert_allclose([row.score for row in found], [0.9, 0.5])
    assert [row.label for row in found] == ["run", "jump"]


def test_segments_are_clipped_to_the_video_and_empty_ones_go() -> None:
    rows = ((-5.0, 3.0, 0.9, 0), (35.0, 60.0, 0.8, 0), (45.0, 60.0, 0.7, 0), (-4.0, -1.0, 0.6, 0))
    found = merge([(0, window(*rows))], 4.0, KEEP_ALL)
    np.testing.assert_allclose(segments(found), [[0.0, 0.3], [3.5, 4.0]])


def test_what_two_windows_both_found_is_reported_once() -> None:
    twice = [(0, window((20, 30, 0.9, 0))), (16, window((4, 14, 0.8, 0), (4, 14, 0.7, 1)))]
    found = merge(twice, 4.0, NmsConfig(method="hard"))
    assert [row.label for row in found] == ["jump", "run"]  # the other class stays
    np.testing.assert_allclose([row.score for row in found], [0.9, 0.7])


def test_a_video_in_which_nothing_is_found() -> None:
    for windows in ([], [(0, window())]):
        assert merge(windows, 4.0, NmsConfig()) == []


def test_windows_are_detected_one_by_one_whatever_the_batch() -> None:
    torch.manual_seed(0)
    network = SPEC.model_copy(update={"mode": "baseline"}).build().eval()
    path = DetectionPath(SPEC.window, InferenceConfig(window_top_k=5), SPEC.classes)
    frames = torch.randint(0, 256, (3, 16, 32, 32, 3), dtype=torch.uint8)
    mask = torch.arange(16) < torch.tensor([[16], [9], [16]])
    together = path.detect(network, frames, mask)
    for index, found in enumerate(together):
        (alone,) = path.detect(network, frames[index, None], mask[index, None])
        torch.testing.assert_close(found.scores, alone.scores)
        torch.testing.assert_close(found.segments_frames, alone.segments_frames)
        assert len(found.scores) == 5 and not found.scores.requires_grad


def test_predictions_that_are_no_numbers_are_an_error_and_not_an_empty_list() -> None:
    torch.manual_seed(0)
    network = SPEC.model_copy(update={"mode": "baseline"}).build().eval()
    for parameter in network.parameters():
        parameter.data.fill_(torch.nan)
    path = DetectionPath(SPEC.window, InferenceConfig(), SPEC.classes)
    with pytest.raises(ValueError, match=r"predictions .* are not numbers"):
        path.detect(network, torch.zeros(1, 16, 32, 32, 3, dtype=torch.uint8), torch.ones(1, 16, dtype=torch.bool))
