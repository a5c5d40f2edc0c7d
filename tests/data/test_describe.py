"""What becomes of annotations as they are found in the wild."""

import hashlib

import pytest

from tadscale.data.describe import describe
from tadscale.data.encode import encode_h264
from tadscale.data.quarantine import DataError
from tests.data.clips import numbered

VIDEO = encode_h264(numbered(50), 10)  # 5 s


def note(*segments: tuple[object, object], **changes: object) -> dict:
    actions = [{"label": f"l{nth}", "segment": list(segment)} for nth, segment in enumerate(segments)]
    return {"subset": "train", "annotations": actions} | changes


def test_a_row_says_what_is_there() -> None:
    row, repairs = describe("k", VIDEO, note((1, 2.5), ("3", "4.25")), "u/s.tar", 512)
    assert row.segments_s.tolist() == [[1, 2.5], [3, 4.25]]  # THUMOS14's files hold numbers as text
    assert row.labels == ("l0", "l1")
    assert (row.shard, row.key, row.video_offset, row.video_bytes) == ("s.tar", "k", 512, len(VIDEO))
    assert row.video_sha256 == hashlib.sha256(VIDEO).hexdigest()
    assert (row.duration_s, row.fps, row.frames, row.width, row.height) == pytest.approx((5.0, 10.0, 50, 128, 64))
    assert repairs == []


def test_segments_past_the_end_are_clipped_and_reported() -> None:
    row, repairs = describe("k", VIDEO, note((-1, 1), (4, 9), (4.5, 5.001), (2, 2)), "u/s.tar", 0)
    assert row.segments_s.tolist() == [[0, 1], [4, 5], [4.5, 5]]
    assert row.labels == ("l0", "l1", "l2")
    assert [repair.key for repair in repairs] == ["k"] * 3
    assert "'l0' at [-1, 1] s: 1.00 s of it are outside" in repairs[0].what
    assert "'l1' at [4, 9] s: 4.00 s of it are outside" in repairs[1].what
    assert "'l3' at [2, 2] s has no length" in repairs[2].what


def test_an_action_that_is_written_twice_is_one() -> None:
    twice = note((1, 2), (1, 2), (3, 4))
    for entry, label in zip(twice["annotations"], "aab", strict=True):
        entry["label"] = label
    row, [repair] = describe("k", VIDEO, twice, "u/s.tar", 0)
    assert row.segments_s.tolist() == [[1, 2], [3, 4]]
    assert repair.what == "'a' at [1, 2] s is written 2 times and was kept once"


def test_a_video_without_actions_is_background() -> None:
    row, _ = describe("k", VIDEO, note(), "u/s.tar", 0)
    assert row.labels == ()
    assert row.segments_s.shape == (0, 2)


@pytest.mark.parametrize(("name", "subset"), [("training", "train"), ("Test", "test"), ("val", "validation")])
def test_subsets_go_by_many_names(name: str, subset: str) -> None:
    assert describe("k", VIDEO, note(subset=name), "u/s.tar", 0)[0].subset == subset


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (note((6, 7)), "nothing of it is inside the video, which lasts 5.00 s"),
        (note((3, 2)), "'l0' at [3, 2] s ends before it starts"),
        (note((0, "x")), "annotations"),
        (note((0, float("nan"))), "annotations"),
        (note((0, 1), subset="extra"), "subset is 'extra'"),
        ({"subset": "train"}, "annotations"),
        ({"annotations": []}, "subset is None"),
        ({"subset": "train", "annotations": [{"segment": [0, 1]}]}, "label"),
        ({"subset": "train", "annotations": ["x"]}, "annotations"),
    ],
)
def test_what_cannot_be_trusted_is_refused(annotation: dict, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        describe("k", VIDEO, annotation, "u/s.tar", 0)
    assert reason in caught.value.reason


@pytest.mark.parametrize("key", ["", " ", "..", "../x", "a/./b", "/x", "a//b", "a\nb", "a/", "a\ud800", "x" * 201])
def test_keys_that_name_no_member_are_refused(key: str) -> None:
    with pytest.raises(DataError, match="the key"):
        describe(key, VIDEO, note(), "u/s.tar", 0)


@pytest.mark.parametrize("key", ["video_test_0000004", "v_-a b", "folder/x", "日本"])
def test_keys_of_published_sets_are_fine(key: str) -> None:
    assert describe(key, VIDEO, note(), "u/s.tar", 0)[0].key == key


def test_a_broken_video_is_refused() -> None:
    with pytest.raises(DataError, match="not a readable container"):
        describe("k", VIDEO[:100], note(), "u/s.tar", 0)
