"""Figures that only look like a weak detector's."""

import dataclasses

import numpy as np
import pytest

from tadscale.metrics.overlap import touches_instance
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.report.suspicions import NAMED, Suspicions, find_suspicions
from tadscale.segments import Detection, Segment

LABELS = ("HighJump", "LongJump", "Run")


def truth() -> GroundTruth:
    """Ten videos of 200 s with five instances each."""
    random = np.random.default_rng(0)
    segments = {}
    for video in range(10):
        starts = random.uniform(0, 190, 5)
        segments[f"v{video}"] = [
            Segment(LABELS[place % 3], start, start + random.uniform(1, 8)) for place, start in enumerate(starts)
        ]
    return GroundTruth.from_segments(segments)


def found(scale: float = 1.0, rename: dict[str, str] | None = None) -> DetectionTable:
    """Every instance, with times multiplied and labels renamed."""
    known = truth()
    names = {label: label for label in LABELS} | (rename or {})
    return DetectionTable.from_detections(
        Detection(
            video=known.videos[video],
            label=names[known.labels[label]],
            start_s=start * scale,
            end_s=end * scale,
            score=0.5,
        )
        for video, label, (start, end) in zip(known.video, known.label, known.segments_s, strict=True)
    )


def suspicions(scale: float = 1.0, rename: dict[str, str] | None = None) -> Suspicions:
    return find_suspicions(found(scale, rename), truth())


def test_what_begins_after_the_stated_end_of_its_video_is_told() -> None:
    """Ground truth in frames still touches some detections of short videos, and so is not known by its unit."""
    known = truth()
    ends = np.array([known.segments_s[known.video == video].max() for video in range(10)])
    assert list(find_suspicions(found(), known, duration_s=ends).remarks()) == []
    unknown = np.where(np.arange(10) < 9, ends, np.nan)
    in_frames = dataclasses.replace(known, segments_s=known.segments_s * 10)
    late = int((in_frames.segments_s[:, 0] >= unknown[known.video]).sum())
    assert 0 < late < len(known)
    remarks = list(find_suspicions(found(), in_frames, duration_s=unknown).remarks())
    assert any(f"{late} instances begin after the stated end of their video" in remark for remark in remarks)
    remarks = list(find_suspicions(found(10.0), known, duration_s=unknown).remarks())
    assert any(f"{late} detections begin after the stated end of their video" in remark for remark in remarks)


def test_a_sound_file_raises_none() -> None:
    sound = suspicions()
    assert list(sound.remarks()) == [] and sound.touching == 1.0


@pytest.mark.parametrize(
    ("scale", "unit"),
    [(1000, "milliseconds"), (30, "frames at 30 a second"), (60, "frames at 60 a second"), (1 / 200, "fractions")],
)
def test_times_in_another_unit_are_recognised(scale: float, unit: str) -> None:
    [remark] = suspicions(scale).remarks()
    assert f"their times seem to be {unit}" in remark and "expected are seconds" in remark


def test_times_that_fit_nothing_are_asked_about() -> None:
    far = found()
    far = DetectionTable(**(vars(far) | {"segments_s": far.segments_s + 1e7}))
    [remark] = find_suspicions(far, truth()).remarks()
    assert remark.startswith("No detection overlaps any instance") and "Are the times seconds" in remark


def test_classes_that_do_not_meet_are_named_with_the_nearest() -> None:
    left_out, undetected = suspicions(rename={"HighJump": "High Jump", "Run": "swims"}).remarks()
    assert "'High Jump' (20), meant as 'HighJump'?, 'swims' (10)" in left_out
    assert "0 in the mean: HighJump, Run." in undetected


def test_a_class_that_was_never_to_be_found_can_be_left_out() -> None:
    known = truth()
    more = GroundTruth.from_segments(
        {video: [Segment("Ambiguous", 0, 1)] if video == "v0" else [] for video in known.videos}
    )
    segments = np.concatenate([known.segments_s, more.segments_s])
    whole = GroundTruth(
        videos=known.videos,
        labels=(*known.labels, "Ambiguous"),
        video=np.append(known.video, 0),
        label=np.append(known.label, 3),
        segments_s=segments,
    )
    [remark] = find_suspicions(found(), whole).remarks()
    assert "0 in the mean: Ambiguous (--leave-out CLASS" in remark


def test_videos_of_one_side_only_are_named() -> None:
    rows = [row for row in found().to_detections() if row.video != "v3"]
    rows.append(Detection(video="x", label="Run", start_s=0.0, end_s=1.0, score=0.5))
    one_sided = find_suspicions(DetectionTable.from_detections(rows), truth())
    assert one_sided.silent_videos == ("v3",) and one_sided.foreign_videos == ("x",)
    assert list(one_sided.remarks()) == [
        "Videos of the subset without any detection: v3.",
        "1 detections on videos outside the subset count as false positives: x.",
    ]


def test_what_ends_before_it_starts_is_counted_on_both_sides() -> None:
    backwards = [Detection(video="v3", label="Run", start_s=end, end_s=1.0, score=0.5) for end in (1.0, 5.0)]
    rows = [*found().to_detections(), *backwards]
    known = truth()
    known.segments_s[0] = [3.0, 3.0]
    remarks = list(find_suspicions(DetectionTable.from_detections(rows), known).remarks())
    assert remarks[-2:] == [
        "2 detections do not end after they start: false positives.",
        "1 instances do not end after they start: counted, and never found.",
    ]


def test_what_is_given_twice_is_counted_on_both_sides() -> None:
    """Once for every repetition; what differs in its score alone is a detection of its own."""
    once, twice = (Detection(video="v", label="Run", start_s=0.0, end_s=end_s, score=0.5) for end_s in (1.0, 2.0))
    other = dataclasses.replace(twice, score=0.4)
    instances = [Segment("Run", 0.0, 2.0), Segment("Run", 0.0, 2.0), Segment("Run", 3.0, 4.0)]
    table = DetectionTable.from_detections([once, twice, twice, other, twice])
    looked = find_suspicions(table, GroundTruth.from_segments({"v": instances}))
    assert (looked.repeated_detections, looked.repeated_instances) == (2, 1)
    said = " ".join(looked.remarks())
    assert "2 detections repeat another to the last digit: false positives" in said
    assert "1 instances repeat another" in said


def test_long_lists_are_cut_and_counted() -> None:
    nothing = find_suspicions(DetectionTable.from_detections([]), truth())
    text = " ".join(nothing.remarks())
    assert text.startswith("There is no detection at all.")
    assert nothing.silent_videos == truth().videos and "v9" in text
    assert NAMED < 20 and nothing.to_dict()["remarks"] == list(nothing.remarks())


def test_touching_is_what_a_loop_over_all_pairs_says() -> None:
    random = np.random.default_rng(1)
    known = truth()
    start = random.uniform(-5, 200, 300)
    table = DetectionTable(
        videos=(*known.videos, "x"),
        labels=LABELS,
        video=random.integers(11, size=300),
        label=random.integers(3, size=300),
        segments_s=np.stack([start, start + random.uniform(-1, 6, 300)], axis=1),
        score=np.ones(300),
    )
    slow = [
        any(
            table.videos[video] == known.videos[of] and min(end, b) - max(begin, a) > 0
            for of, (a, b) in zip(known.video, known.segments_s, strict=True)
        )
        for video, (begin, end) in zip(table.video, table.segments_s, strict=True)
    ]
    assert touches_instance(table, known).tolist() == slow
    assert 30 < sum(slow) < 270
