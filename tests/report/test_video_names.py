"""Detections of videos that the ground truth spells otherwise."""

import json
from pathlib import Path

import pytest

from tadscale.metrics.tables import DetectionTable
from tadscale.report.inputs import read_files
from tadscale.report.score import score_files
from tadscale.report.video_names import respelt, twins
from tadscale.segments import Detection


def table(*videos: str) -> DetectionTable:
    """One detection in each video, its score by its place."""
    return DetectionTable.from_detections(
        Detection(video=video, label="run", start_s=0.0, end_s=1.0, score=1 / (place + 1))
        for place, video in enumerate(videos)
    )


@pytest.mark.parametrize(
    ("detected", "annotated", "changed"),
    [
        ("walk/v_1", ["1"], "1"),
        ("walk/1", ["v_1"], "v_1"),
        ("walk/1", ["1"], "1"),
        ("v_1", ["1"], "1"),
        ("walk/v_1", ["walk/1"], "walk/1"),
        ("1", ["walk/1"], None),
        ("walk/1", ["1", "v_1"], None),
        ("walk/2", ["1"], None),
    ],
)
def test_a_video_is_taken_for_what_packing_takes_its_file_for(
    detected: str, annotated: list[str], changed: str | None
) -> None:
    renamed, names = respelt(table(detected), annotated, annotated)
    assert names == ({detected: changed} if changed else {})
    assert [row.video for row in renamed.to_detections()] == [changed or detected]


def test_no_video_is_given_the_detections_of_two() -> None:
    for detected in (["1", "v_1"], ["walk/1", "run/1"]):
        unchanged = table(*detected)
        assert respelt(unchanged, ["1"], ["1"]) == (unchanged, {})


def test_a_video_of_another_subset_keeps_its_name() -> None:
    assert respelt(table("v_1"), ["1"], ["1", "v_1"])[1] == {}


def test_a_video_that_is_listed_without_detections_gets_them() -> None:
    listed = DetectionTable(**(vars(table("x", "v_1")) | {"videos": ("x", "v_1", "1")}))
    renamed, names = respelt(listed, ["1", "x"], ["1", "x"])
    assert names == {"v_1": "1"} and renamed.videos == ("x", "1")
    assert [(row.video, row.score) for row in renamed.to_detections()] == [("x", 1.0), ("1", 0.5)]


def test_twins_are_found_in_either_direction() -> None:
    assert twins(["1", "walk/v_2", "3"], ["walk/1", "2", "4"]) == {"1": "walk/1", "walk/v_2": "2"}


def test_scores_are_those_of_the_right_names_and_it_is_said(tmp_path: Path) -> None:
    segment = {"label": "run", "segment": [0, 2]}
    truth = {"database": {name: {"subset": "test", "annotations": [segment]} for name in ("1", "2", "walk/3")}}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for name, videos in (("right", ("1", "2", "3")), ("other", ("walk/v_1", "2", "3"))):
        found = {"results": {video: [segment | {"score": 0.5}] for video in videos}}
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    right, other = (score_files(tmp_path / f"{name}.json", tmp_path / "truth.json") for name in ("right", "other"))
    assert other.result.average == right.result.average > 0.3
    remarks = list(other.suspicions.remarks())
    assert "1 videos of the detections are spelt otherwise" in remarks[-1] and "'walk/v_1' as '1'" in remarks[-1]
    assert "count as false positives: 3 (meant as 'walk/3'?)" in remarks[-2]
    inputs = read_files([str(tmp_path / "other.json")], str(tmp_path / "truth.json"))
    assert inputs.respelt == {"other": {"walk/v_1": "1"}}
    assert inputs.detections["other"].videos == ("1", "2", "3")
