"""What `tadscale score` says, as a table and as JSON, and what it refuses."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tadscale.errors import UserError
from tadscale.report.score import ScoreReport, parse_tiou, score_files, score_json, score_table


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.3:0.7:0.1", (0.3, 0.4, 0.5, 0.6, 0.7)),
        ("0.5:0.95:0.05", (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)),
        ("0.5,0.75,0.95", (0.5, 0.75, 0.95)),
        (".5", (0.5,)),
        ("0.3:0.75:0.2", (0.3, 0.5, 0.7)),
        ("1:1:1", (1.0,)),
    ],
)
def test_thresholds_are_the_decimals_as_written(text: str, values: tuple[float, ...]) -> None:
    assert parse_tiou(text) == values


@pytest.mark.parametrize(
    "text",
    ["", "half", "0.3:0.7", "0:1:0.5", "50", "0.7:0.3:0.1", "0.3:0.7:0", "nan", "0.1:0.9:1e-9", "0.1:1e9:0.1", "-1"],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="tIoU thresholds"):
        parse_tiou(text)


def detections(folder: Path, rows: list[tuple[str, str, float, float, float]]) -> Path:
    results: dict[str, list[Any]] = {}
    for video, label, start_s, end_s, score in rows:
        results.setdefault(video, []).append({"label": label, "segment": [start_s, end_s], "score": score})
    path = folder / "detections.json"
    path.write_text(json.dumps({"results": results}))
    return path


@pytest.fixture
def ground_truth(tmp_path: Path) -> Path:
    """Two test videos with three instances, one of no length; a validation video."""
    entry = {"subset": "Test", "annotations": [{"label": "[jump]", "segment": [0, 10]}]}
    other = {
        "subset": "test",
        "annotations": [{"label": "run", "segment": [0, 10]}, {"label": "run", "segment": [5, 5]}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"database": {"v": entry, "w": other, "x": entry | {"subset": "validation"}}}))
    return path


@pytest.fixture
def report(tmp_path: Path, ground_truth: Path) -> ScoreReport:
    rows = [
        ("v", "[jump]", 0, 10, 0.5),
        ("v", "[jump]", 50, 60, 0.5),
        ("x", "[jump]", 0, 10, 0.1),
        ("w", "run", 0, 9, 0.9),
        ("w", "swim", 0, 9, 0.9),
    ]
    return score_files(detections(tmp_path, rows), ground_truth, tiou=(0.5, 0.95))


def test_counts_what_was_compared(report: ScoreReport) -> None:
    assert (report.subset, report.videos, report.instances, report.empty_instances) == ("test", 2, 3, 1)
    assert (report.scored, report.unknown_class, report.unknown_video, report.tied) == (4, 1, 1, 2)
    assert report.stable.per_class.tolist() == [[0.5, 0.5], [0.5, 0.0]]


def test_json_holds_all_of_it(report: ScoreReport) -> None:
    document = json.loads(score_json(report))
    assert document["ground_truth"]["name"] == "truth.json"
    assert len(document["ground_truth"]["sha256"]) == 64
    assert document["ground_truth"]["instances"] == 3
    assert document["detections"]["tied"] == 2
    assert document["tiou"] == [0.5, 0.95]
    assert document["mAP"] == report.result.per_tiou.tolist()
    assert document["stable_order"]["mAP"] == [0.5, 0.25]


def test_table_names_the_ground_truth_and_warns(report: ScoreReport) -> None:
    console = Console(width=140, record=True, file=StringIO())
    console.print(score_table(report))
    text = console.export_text()
    assert "truth.json  subset test: 2 videos, 3 instances, 2 classes" in text
    assert "@0.95" in text
    assert "[jump]" in text, "a class that looks like markup must be shown as it is"
    for remark in (
        "1 detections of classes without",
        "1 detections on videos outside",
        "1 instances",
        "2 detections share",
    ):
        assert remark in text
    assert "37.50" in text, "the average in the stable order"


def test_no_detection_at_all_is_a_score_of_zero(tmp_path: Path, ground_truth: Path) -> None:
    report = score_files(detections(tmp_path, []), ground_truth)
    assert report.result.average == 0.0


@pytest.mark.parametrize(
    ("row", "message"),
    [(("u", "run", 0, 1, 0.5), "share no video"), (("v", "Run", 0, 1, 0.5), "share no class")],
)
def test_files_that_share_nothing_are_refused(
    tmp_path: Path, ground_truth: Path, row: tuple[str, str, float, float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_files(detections(tmp_path, [row]), ground_truth)


def test_a_class_left_out_counts_on_neither_side(tmp_path: Path, ground_truth: Path) -> None:
    rows = [("v", "[jump]", 0, 10, 0.5), ("w", "run", 20, 29, 0.9)]
    report = score_files(detections(tmp_path, rows), ground_truth, tiou=(0.5,), leave_out=["run"])
    assert (report.instances, report.scored, report.unknown_class, report.left_out) == (1, 1, 0, ("run",))
    assert report.videos == 2, "its videos stay: what is found there is found wrongly"
    assert report.result.average == 1.0
    with pytest.raises(UserError, match=r"has no class 'runs' to leave out: did you mean `run`"):
        score_files(detections(tmp_path, rows), ground_truth, leave_out=["runs"])


def test_a_key_twice_in_either_file_is_an_error_that_names_it(tmp_path: Path, ground_truth: Path) -> None:
    """One entry would have counted, and the other not, without a word: 28.72 where 24.01 was right."""
    found = detections(tmp_path, [("v", "run", 0, 1, 0.5)])
    for path, other in ((ground_truth, found), (found, ground_truth)):
        whole = path.read_text()
        path.write_text(whole.replace('"v":', '"v": [], "v":', 1))
        with pytest.raises(UserError, match=rf"{path.name}.*the key 'v' stands twice"):
            score_files(found, ground_truth)
        path.write_text(whole)
        assert other.is_file() and score_files(found, ground_truth).scored


def test_swapped_files_are_recognised(tmp_path: Path, ground_truth: Path) -> None:
    with pytest.raises(ValueError, match="seem to be swapped"):
        score_files(ground_truth, detections(tmp_path, []))


def test_the_published_files(shared_data: Path) -> None:
    folder = shared_data / "thumos14"
    report = score_files(folder / "detections_scnn_res3d.json", folder / "ground_truth_210.json", subset="Test")
    assert (report.videos, report.instances, report.scored, report.unknown_video) == (210, 3311, 23324, 180)
    assert report.tied == 6598
    assert round(report.stable.average, 6) == 0.243275
