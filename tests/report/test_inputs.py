"""What a report reads: files that share a ground truth."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tadscale.report.inputs import are_runs, read_files, read_run, read_runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two detectors' files and their ground truth; of one video the length is unknown."""
    jump = {"label": "jump", "segment": [0, 2]}
    videos = {
        "v": {"subset": "test", "duration": 10, "annotations": [jump]},
        "w": {"subset": "test", "annotations": [jump | {"label": "unclear"}]},
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": videos}))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "found.json").write_text(json.dumps({"results": {"v": [jump | {"score": 0.5}]}}))
    return tmp_path


def test_detectors_are_called_by_their_files(folder: Path) -> None:
    (folder / "other.json").write_text((folder / "one" / "found.json").read_text())
    files = [str(folder / "other.json"), str(folder / "one" / "found.json")]
    inputs = read_files(files, str(folder / "truth.json"), leave_out=["unclear"])
    assert list(inputs.detections) == ["other", "found"]
    assert inputs.ground_truth.labels == ("jump",)
    np.testing.assert_equal(inputs.duration_s, [10, np.nan])
    assert "subset test: 2 videos, 1 instances, 1 classes" in inputs.source


def test_files_of_one_name_are_told_apart_by_their_folders(folder: Path) -> None:
    files = [str(folder / name / "found.json") for name in ("one", "two")]
    assert list(read_files(files, str(folder / "truth.json")).detections) == files


def test_a_run_without_its_ground_truth_says_what_to_name_instead(folder: Path) -> None:
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "scores.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no folder of an evaluated run.*ground_truth.json.*name the files"):
        read_run(str(folder))


@pytest.fixture
def run(folder: Path) -> str:
    """What a run leaves that evaluated one detector."""
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "scores.json").write_text(json.dumps({"student": {"tiou": [0.5]}}))
    (folder / "one" / "found.json").rename(folder / "evaluation" / "student.json")
    (folder / "truth.json").rename(folder / "evaluation" / "ground_truth.json")
    return str(folder)


def test_classes_are_left_out_of_a_run_too(run: str) -> None:
    assert read_run(run)[0].ground_truth.labels == ("jump", "unclear")
    inputs, tiou = read_run(run, leave_out=["unclear"])
    assert inputs.ground_truth.labels == ("jump",) and tiou == (0.5,)
    with pytest.raises(ValueError, match="no class 'swim' to leave out"):
        read_run(run, leave_out=["swim"])


def test_another_subset_than_a_run_was_evaluated_on_is_refused(run: str) -> None:
    assert read_run(run, subset="testing")[0].ground_truth.videos == ("v", "w")
    with pytest.raises(ValueError, match="evaluated on the subset 'test' and holds nothing of 'validation'"):
        read_run(run, subset="validation")


def test_runs_are_compared_where_their_ground_truth_is_the_same(run: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(Path(run, "evaluation"), other / "evaluation")
    truth = other / "evaluation" / "ground_truth.json"
    videos = json.loads(truth.read_text())["database"]
    truth.write_text(json.dumps({"database": dict(reversed(videos.items()))}))  # another order is no other truth
    assert are_runs([run, str(other)]) and not are_runs([f"{run}/evaluation/student.json", str(truth)])
    inputs, tiou = read_runs([run, f"{other}/"])
    assert list(inputs.detections) == list(inputs.respelt) == [f"{Path(run).name}/student", "other/student"]
    assert tiou == (0.5,) and inputs.ground_truth.videos == read_run(run)[0].ground_truth.videos
    videos["v"]["annotations"][0]["segment"] = [0, 3]
    truth.write_text(json.dumps({"database": videos}))
    with pytest.raises(
        ValueError, match=r"not scored on the same ground truth.*other/evaluation/NAME.json GROUND_TRUTH"
    ):
        read_runs([run, str(other)])


def test_detections_alone_are_no_run(folder: Path) -> None:
    with pytest.raises(ValueError, match="compared with nothing: name the ground truth's file last"):
        read_run(str(folder / "one" / "found.json"))


def test_a_subset_without_a_segment_is_not_taken_for_other_names(folder: Path) -> None:
    database = {"v": {"subset": "test", "duration": 9, "annotations": []}}
    (folder / "truth.json").write_text(json.dumps({"database": database}))
    with pytest.raises(ValueError, match="the subset has 1 videos and no segment"):
        read_files([str(folder / "one" / "found.json")], str(folder / "truth.json"))
