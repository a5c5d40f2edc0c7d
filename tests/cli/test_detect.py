import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tadscale.cli import main
from tadscale.cli.common import write_page
from tadscale.cli.detect_videos import detect, prediction_html, prediction_json, prediction_table
from tadscale.data.annotations import ground_truth_table, parse_detections, parse_ground_truth
from tadscale.data.decode import probe_video
from tadscale.data.suspicions import Suspicions
from tadscale.errors import UserError
from tadscale.metrics.average_precision import evaluate_detections
from tadscale.metrics.tables import DetectionTable
from tadscale.runtime.models.open_model import parse_model
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tadscale.segments import Detection
from tadscale.serving import Prediction
from tests.data.clips import encode_clip, numbered
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401
from tests.serving.conftest import package, video  # noqa: F401

PREDICTION = Prediction(
    detections=[
        Detection(video="a", label="run", start_s=1.0, end_s=2.5, score=0.9),
        Detection(video="a", label="[red]jump", start_s=0.25, end_s=0.5, score=0.1),
    ],
    duration_s={"a": 10.0, "empty": 5.0},
    failures={"b": "damaged"},
)


def test_a_model_by_name_by_uri_and_by_folder(
    storage: Path,  # noqa: F811
    package: Path,  # noqa: F811
    video: bytes,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip, text = tmp_path / "clip one.mp4", tmp_path / "text.mp4"
    clip.write_bytes(video)
    text.write_text("no video")
    with track_job(TrackingConfig(), job="distill", storage=str(storage), settings={}) as run:
        Registry(run.tracking_uri).register(run, "tiny", package, metrics={}, tags={})
    expected = detect(str(package), [clip, text], device="cpu")
    assert {row.video for row in expected.detections} == {"clip one"} and set(expected.failures) == {"text"}
    for model in ("tiny", "models:/tiny@champion", "models:/tiny/1"):
        assert detect(model, [clip, text], tracking_uri=run.tracking_uri, device="cpu") == expected
    with pytest.raises(ValueError, match=r"no version or alias 'challenger'; its aliases: champion \(version 1\)"):
        detect("models:/tiny@challenger", [clip], tracking_uri=run.tracking_uri)
    with pytest.raises(ValueError, match="tiny is no folder, and no registry is named"):
        detect("tiny", [clip])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", run.tracking_uri)
    assert detect("tiny", [clip, text], device="cpu") == expected


def test_a_folder_is_its_videos_called_as_packing_calls_them(
    package: Path,  # noqa: F811
    video: bytes,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder, alone = tmp_path / "videos", tmp_path / "monday.mp4"
    (folder / "kitchen").mkdir(parents=True)
    for path in (folder / "kitchen" / "monday.mp4", folder / "garden.mkv", alone):
        path.write_bytes(video)
    (folder / "notes.txt").write_text("no video")
    (folder / "._garden.mp4").write_text("what macOS leaves beside a file")
    found = detect(str(package), [str(folder), alone], device="cpu")
    assert list(found.duration_s) == ["garden", "kitchen/monday", "monday"]
    assert not found.failures
    other = alone.rename(tmp_path / "garden.mp4")
    twice = detect(str(package), [folder, other], device="cpu")
    assert list(twice.duration_s) == [str(folder / "garden.mkv"), "kitchen/monday", str(other)]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none: no video in this folder"):
        detect(str(package), [tmp_path / "none"], device="cpu")


def test_a_file_that_is_cut_short_is_told_as_packing_tells_it(
    package: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    whole.write_bytes(encode_clip(numbered(140), container="matroska"))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert main(["detect", str(package), str(whole), str(cut), "--json"]) == 0
    told = capsys.readouterr()
    assert set(json.loads(told.out)["results"]) == {"whole", "cut"}
    seen = Suspicions()
    seen.see("cut", None, probe_video(cut.read_bytes()))
    [warning] = seen.warnings()
    assert "fewer pictures than their headers promise" in warning
    assert told.err.splitlines()[-1] == f"tadscale: {warning}"


def test_a_model_is_named_in_three_ways() -> None:
    assert parse_model("models:/name@alias") == parse_model("name@alias") == ("name", "alias")
    assert parse_model("models:/name/3") == ("name", "3")
    assert parse_model("name") == ("name", "champion")
    for wrong in ("models:/", "./no/such/folder", "s3://bucket/model", "name@", "@champion", "a/b/c"):
        with pytest.raises(ValueError, match="neither a folder nor a model"):
            parse_model(wrong)


def test_as_a_table() -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(prediction_table(PREDICTION, min_score=0.05))
    assert "[red]jump" in out.getvalue() and "0.9000" in out.getvalue()
    out = io.StringIO()
    Console(file=out, width=100).print(prediction_table(PREDICTION, min_score=0.5))
    assert "jump" not in out.getvalue() and "run" in out.getvalue()
    assert "weaker than 0.5 are not shown (--min-score)" in out.getvalue()


def test_a_score_above_1_is_refused(package: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert main(["detect", str(package), "any.mp4", "--min-score", "2"]) == 1
    assert "--min-score 2 is no score" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nowhere/page\.html cannot be written: No such file or directory; name a file"
    ):
        write_page(tmp_path / "nowhere" / "page.html", "")


def test_none_kept_of_a_video_is_refused(package: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert main(["detect", str(package), "any.mp4", "--top-k", "0"]) == 1
    assert "top_k is 0: at least one detection must be kept" in capsys.readouterr().err


def test_as_activitynet_json() -> None:
    text = prediction_json(PREDICTION)
    assert parse_detections(json.loads(text), "text").to_detections() == PREDICTION.detections
    assert json.loads(text)["results"]["empty"] == []
    assert json.loads(prediction_json(PREDICTION, min_score=1.0))["results"] == {"a": [], "empty": []}


def test_what_detect_prints_is_scored_as_the_run_itself_was(
    package: Path,  # noqa: F811
    video: bytes,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A young detector is sure of nothing: without its weak detections the figure would be 0."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video)
    rows = detect(str(package), [clip], device="cpu").detections
    assert len(rows) > 3
    weak = rows[-1]
    segment = {"label": weak.label, "segment": [weak.start_s, weak.end_s]}
    truth = {"database": {"clip": {"subset": "test", "annotations": [segment]}}}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    table = ground_truth_table(parse_ground_truth(truth, "truth"), "test", "truth")
    wanted = evaluate_detections(DetectionTable.from_detections(rows), table)
    assert wanted.average > 0

    assert main(["detect", str(package), str(clip), "--json"]) == 0
    printed = capsys.readouterr().out
    assert len(json.loads(printed)["results"]["clip"]) == len(rows)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(printed.encode())))
    assert main(["score", "-", str(tmp_path / "truth.json"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["average_mAP"] == wanted.average
    assert report["detections"]["name"] == "standard input"

    least = rows[2].score
    assert main(["detect", str(package), str(clip), "--json", "--min-score", str(least)]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]["clip"]) == 3


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich makes pictures of `:car:`, and folds lines."""
    long = ":car:" + "x" * 300
    row = Detection(video=long, label=":run:", start_s=0.0, end_s=1.0, score=0.5)
    prediction = Prediction(detections=[row], duration_s={long: 2.0})
    monkeypatch.setattr("tadscale.cli.detect_videos.detect", lambda *_, **__: prediction)
    assert main(["detect", "any", "any.mp4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][long][0]["label"] == ":run:"


def test_a_file_whose_name_is_not_utf_8_is_told_on_paper_and_on_the_terminal(
    package: Path,  # noqa: F811
    video: bytes,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, page, truth = tmp_path / "videos", tmp_path / "page.html", tmp_path / "truth.json"
    folder.mkdir()
    for name in (b"caf\xe9.mp4", b"a.mp4"):
        (folder / os.fsdecode(name)).write_bytes(video)
    command = ["detect", str(package), str(folder), "--min-score", "0.001"]
    assert main([*command, "--html", str(page)]) == 0
    assert "caf\\udce9" in capsys.readouterr().out and "caf\\udce9" in page.read_text(encoding="utf-8")
    assert main([*command, "--json"]) == 0
    (tmp_path / "found.json").write_text(printed := capsys.readouterr().out)
    segment = json.loads(printed)["results"]["a"][0]
    entry = {"subset": "test", "annotations": [{"label": segment["label"], "segment": segment["segment"]}]}
    truth.write_text(json.dumps({"database": {"a": entry}}))
    assert main(["score", str(tmp_path / "found.json"), str(truth)]) == 0
    assert "outside the subset count as false positives: caf\\udce9" in capsys.readouterr().out


def test_as_html() -> None:
    page = prediction_html(PREDICTION, "tiny", min_score=0.5)
    assert "<!DOCTYPE html>" in page and ">empty " in page and "run" in page and "jump" not in page


def test_detection_needs_neither_the_training_stack_nor_plots(package: Path, video: bytes, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "clip.mp4").write_bytes(video)
    script = (
        "import sys\n"
        "absent = ('ray', 'deepspeed', 'webdataset', 's3fs', 'boto3', 'cv2', 'matplotlib', 'mlflow')\n"
        "sys.modules.update(dict.fromkeys(absent))\n"  # None there makes an import fail
        "from tadscale.cli.detect_videos import detect, prediction_html, prediction_json, prediction_table\n"
        "prediction = detect(sys.argv[1], [sys.argv[2]])\n"
        "assert prediction.detections and prediction_html(prediction, 'm') and prediction_table(prediction)\n"
        "sys.stdout.write(prediction_json(prediction))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(package), str(tmp_path / "clip.mp4")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]["clip"]
