"""ActivityNet JSON as it is found: what is read, what is refused, and with which words."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tadscale.data.annotations import (
    detections_document,
    ground_truth_document,
    ground_truth_table,
    normal_subset,
    parse_detections,
    parse_ground_truth,
    read_detections,
    read_document,
)
from tadscale.data.storage import StorageError
from tadscale.metrics import DetectionTable
from tadscale.segments import Detection, Segment


def database(**change: Any) -> dict[str, Any]:
    entry = {"subset": "Test", "duration": "40.5", "annotations": [{"label": "jump", "segment": ["1.5", 3]}]}
    return {"database": {"v": {**entry, **change}}}


def results(**change: Any) -> dict[str, Any]:
    return {"results": {"v": [{"label": "jump", "segment": [1, "2.5"], "score": "0.75", **change}]}}


def test_numbers_as_strings_and_any_case_of_subset() -> None:
    [video] = parse_ground_truth(database(), "gt.json")
    assert (video.video, video.subset, video.duration_s) == ("v", "test", 40.5)
    assert video.segments == (Segment("jump", 1.5, 3.0),)


@pytest.mark.parametrize(
    ("written", "normal"),
    [("Training", "train"), ("val", "validation"), ("TEST ", "test"), ("testing", "test"), ("Own", "own")],
)
def test_subset_names(written: str, normal: str) -> None:
    assert normal_subset(written) == normal


def test_duration_may_be_missing_or_called_otherwise() -> None:
    document = database()
    del document["database"]["v"]["duration"]
    assert parse_ground_truth(document, "gt.json")[0].duration_s is None
    document["database"]["v"]["duration_second"] = 7
    assert parse_ground_truth(document, "gt.json")[0].duration_s == 7.0


def test_segments_without_length_are_kept_and_told_apart() -> None:
    rows = [{"label": "jump", "segment": segment} for segment in ([3, 3], [5, 4], [1, 2])]
    [video] = parse_ground_truth(database(annotations=rows), "gt.json")
    assert [segment.start_s for segment in video.segments] == [3.0, 5.0, 1.0]
    assert video.usable_segments == (Segment("jump", 1.0, 2.0),)
    assert len(ground_truth_table([video], "test", "gt.json")) == 3


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], 'gt.json has no object "database"'),
        ({"results": {}}, "seem to be swapped"),
        (database(annotations=None), r"database\['v'\] has no list \"annotations\""),
        ({"database": {"v": []}}, r"database\['v'\] has no list"),
        (database(annotations=[{"segment": [1, 2]}]), r"annotations\[0\] has the label None"),
        (database(annotations=[{"label": 7, "segment": [1, 2]}]), "has the label 7, expected a name"),
        (database(annotations=[{"label": "jump", "segment": [1]}]), r"segment \[1\], expected \[start, end\]"),
        (database(annotations=[{"label": "jump", "segment": "1-2"}]), "segment '1-2'"),
        (database(annotations=[{"label": "jump", "segment": [1, "two"]}]), r"segment\[1\] is 'two', expected a number"),
        (database(annotations=[{"label": "jump", "segment": [math.nan, 2]}]), r"segment\[0\] is nan"),
        (database(duration="inf"), "duration is 'inf'"),
        (database(annotations=["jump"]), r"annotations\[0\] has the label None"),
    ],
)
def test_malformed_ground_truth_is_refused_with_its_place(document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_ground_truth(document, "gt.json")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"database": {}}, "seem to be swapped"),
        ({"results": {"v": {"label": "jump"}}}, r"results\['v'\] is dict, expected a list"),
        (results(score=None), r"results\['v'\]\[0\].score is None"),
        (results(score=math.nan), "score is nan, expected a finite number"),
        (results(segment=None), "segment None"),
        (results(label=""), "label ''"),
        ({"results": {"v": [{"label": "jump", "segment": [1, 2]}]}}, 'has no "score"'),
    ],
)
def test_malformed_detections_are_refused_with_their_place(document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_detections(document, "det.json")


def test_detections_keep_file_order_and_videos_without_any() -> None:
    document = results()
    document["results"]["none"] = []
    document["results"]["v"].append({"label": "a", "segment": [0, 1], "score": 0.1})
    table = parse_detections(document, "det.json")
    assert table.videos == ("v", "none")
    assert [(row.label, row.end_s, row.score) for row in table.to_detections()] == [
        ("jump", 2.5, 0.75),
        ("a", 1.0, 0.1),
    ]


def test_written_detections_are_read_back_exactly(tmp_path: Path) -> None:
    rows = [
        Detection(video="b/ü", label="jump", start_s=0.1 + 0.2, end_s=1 / 3, score=1e-12),
        Detection(video="a", label="run", start_s=0.0, end_s=2.0, score=0.5),
        Detection(video="b/ü", label="run", start_s=0.0, end_s=2.0, score=0.5),
    ]
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(detections_document(DetectionTable.from_detections(rows)), allow_nan=False))
    assert sorted(map(str, read_detections(path).to_detections())) == sorted(map(str, rows))
    assert set(json.loads(path.read_text())) == {"version", "results", "external_data"}  # evaluators demand all three


def test_a_missing_subset_names_those_that_are_there() -> None:
    videos = parse_ground_truth(database(), "gt.json")
    assert len(ground_truth_table(videos, "TESTING", "gt.json")) == 1
    with pytest.raises(ValueError, match=r"gt.json has no video of subset 'validation'; it has test \(1\)"):
        ground_truth_table(videos, "validation", "gt.json")


def test_files_that_are_not_json(tmp_path: Path) -> None:
    cut, binary = tmp_path / "cut.json", tmp_path / "binary.json"
    cut.write_text('{"results": {"v": [')
    binary.write_bytes(b"\x80\x04\x95\xff\xfe")
    with pytest.raises(ValueError, match=r"cut.json is not JSON \(line 1, column 20"):
        read_document(cut)
    with pytest.raises(ValueError, match=r"binary\.json is not JSON"):
        read_document(binary)
    with pytest.raises(StorageError, match=r"missing\.json"):
        read_document(tmp_path / "missing.json")


def test_the_published_thumos14_file(shared_data: Path) -> None:
    document = read_document(shared_data / "thumos14" / "ground_truth_210.json")
    videos = parse_ground_truth(document.content, "thumos")
    table = ground_truth_table(videos, "test", "thumos")
    assert (len(table.videos), len(table), len(table.labels)) == (210, 3311, 20)
    assert len(ground_truth_table(videos, "Training", "thumos")) == 3007


def test_ground_truth_is_read_as_it_was_written() -> None:
    videos = parse_ground_truth(
        {
            "database": {
                "v": {
                    "subset": "Testing",
                    "duration": "9.5",
                    "annotations": [{"label": "jump", "segment": [1, "2.5"]}],
                },
                "w": {"subset": "train", "annotations": []},
            }
        },
        "file",
    )
    written = json.loads(json.dumps(ground_truth_document(videos)))
    assert parse_ground_truth(written, "file") == videos
