"""Known faults of published annotations: what is done about each, and that it is counted."""

import pytest

from tadscale.data.importers.collected import WHOLE, Collected
from tadscale.data.importers.corrections import (
    CLIPPED,
    EMPTY,
    NO_LENGTH,
    OUTSIDE,
    REVERSED,
    TWICE,
    UNMEASURED,
    UNUSABLE,
    WITHHELD,
    correct,
)
from tadscale.errors import UserError
from tadscale.segments import Segment


def one_video(*spans: tuple[float, float], duration_s: float | None = 10.0) -> Collected:
    collected = Collected(1)
    collected.declare("v.mp4", "Training", "a.txt:1", duration_s)
    for span in spans:
        collected.add("v", Segment("jump", *span))
    return collected


@pytest.mark.parametrize(
    ("span", "kept", "kind"),
    [
        ((1, 2), (1, 2), None),
        ((0, 10.005), (0, 10), None),  # rounded
        ((3, 3), None, EMPTY),
        ((4, 3), None, REVERSED),
        ((8, 12), (8, 10), CLIPPED),
        ((-1, 2), (0, 2), CLIPPED),
        ((10, 12), None, OUTSIDE),
        ((-3, -1), None, OUTSIDE),
        ((0, WHOLE), (0, 10), None),
    ],
)
def test_each_fault_is_corrected_and_counted(span, kept, kind) -> None:
    collected = one_video(span, (5, 6))
    [video] = correct(collected, {})
    assert [tuple(segment[1:]) for segment in video.segments] == ([kept] if kept else []) + [(5, 6)]
    assert {kind: len(found) for kind, found in collected.corrections.items() if found} == ({kind: 1} if kind else {})


def test_corrections_name_the_video_the_label_and_the_times() -> None:
    collected = one_video((8, 12))
    correct(collected, {})
    assert collected.corrections[CLIPPED] == ["v: 'jump' at [8, 12] s of 10.00 s"]


def test_a_segment_written_several_times_is_kept_once() -> None:
    collected = one_video((1, 2), (1, 2), (3, 4), (1, 2))
    [video] = correct(collected, {})
    assert [segment.start_s for segment in video.segments] == [1, 3]
    assert len(collected.corrections[TWICE]) == 2


def test_without_any_length_nothing_is_clipped_and_a_measured_one_counts() -> None:
    assert correct(one_video((8, 12), duration_s=None), {})[0].segments == (Segment("jump", 8, 12),)
    [video] = correct(one_video((8, 12), duration_s=None), {"v": 9.0})
    assert (video.duration_s, video.segments) == (9.0, (Segment("jump", 8, 9.0),))


def test_a_stated_length_of_nothing_is_not_believed() -> None:
    collected = one_video((8, 12), duration_s=0.0)
    [video] = correct(collected, {})
    assert (video.duration_s, len(video.segments)) == (None, 1)
    assert collected.corrections[NO_LENGTH] == ["v: 0 s"]


def test_a_subset_without_any_segment_is_withheld_and_a_video_without_is_background() -> None:
    collected = one_video((1, 2))
    collected.declare("background", "training", "a.txt:2")
    collected.declare("secret", "testing", "a.txt:3")
    assert [(video.video, video.subset) for video in correct(collected, {})] == [
        ("v", "train"),
        ("background", "train"),
    ]
    assert collected.corrections[WITHHELD] == ["secret (test)"]


def test_a_video_none_of_whose_segments_can_be_used_is_no_background() -> None:
    collected = one_video((1, 2))
    collected.declare("w", "train", "a.txt:2", 10.0)
    collected.add("w", Segment("run", 0, 0))
    assert [video.video for video in correct(collected, {})] == ["v"]
    assert collected.corrections[UNUSABLE] == ["w"]


def test_what_cannot_be_corrected_is_an_error() -> None:
    with pytest.raises(UserError, match="none of the 1 videos has a segment"):
        correct(one_video(), {})
    with pytest.raises(UserError, match=r"v: its label lasts as long as the video.*--videos"):
        correct(one_video((0, WHOLE), duration_s=None), {})


def test_a_video_labelled_as_a_whole_that_could_not_be_measured_is_left_out() -> None:
    collected = one_video((0, WHOLE), duration_s=None)
    collected.declare("w", "train", "a.txt:2")
    collected.add("w", Segment("run", 0, WHOLE))
    assert [(video.video, video.segments) for video in correct(collected, {"w": 4.0})] == [
        ("w", (Segment("run", 0, 4.0),))
    ]
    assert collected.corrections[UNMEASURED] == ["v"]


def test_a_video_is_in_one_subset() -> None:
    with pytest.raises(UserError, match=r"b\.txt:7: v is in the subset 'test' here and in 'train' before"):
        one_video().declare("v", "testing", "b.txt:7")
