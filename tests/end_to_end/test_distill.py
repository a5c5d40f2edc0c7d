"""The demo job, small: run plainly, and submitted to a cluster of several nodes with everything on S3."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tadscale.data.storage import open_filesystem
from tadscale.runtime.models.registry import Registry

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MODEL = "sprites-detector"
CANARY = "Kanarienvogel"
SMALL = [
    "data.sprites.train=6",
    "data.sprites.validation=1",
    "data.sprites.test=3",
    "data.sprites.size=32",
    "data.sprites.duration_s=8",
    "data.window={frames: 80, stride_frames: 80, fps: 10, height: 32, width: 32}",
    "optim.epochs=1",
    "optim.global_batch=2",
]
OVERRIDES = [part for setting in SMALL for part in ("--set", setting)]

pytestmark = pytest.mark.timeout(1000)


def _call(*command: str, env: dict[str, str], expect: int = 0) -> str:
    environment = {**os.environ, **env, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == expect, (
        f"{command}: exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, str]:
    """The job run by itself on local disk; returns the environment that names its places."""
    folder = tmp_path_factory.mktemp("plain")
    places = {
        "TADSCALE_STORAGE": str(folder / "runs"),
        "TADSCALE_DATA": str(folder / "data"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    places["output"] = _call("jobs/distill.yaml", *OVERRIDES, env=places)
    return places


def test_the_run_ends_with_the_table_and_a_champion(plain):
    rows = [line.split("│")[1].strip() for line in plain["output"].splitlines() if line.count("│") > 5]
    assert [row for row in rows if row] == ["two_stream", "teacher", "decomposed", "baseline"]
    assert f"{MODEL} version 1 (champion)" in plain["output"]


def test_every_stage_left_curves_weights_and_scores(plain):
    run = Path(plain["TADSCALE_STORAGE"], "sprites")
    for stage in ("teacher", "baseline", "decomposed"):
        log = [json.loads(line) for line in (run / stage / "log.jsonl").read_text().splitlines()]
        assert [record["step"] for record in log] == [0, 1, 2]
        assert (run / stage / "weights" / "weights.safetensors").stat().st_size > 10_000
    scores = json.loads((run / "evaluation" / "scores.json").read_text())
    assert set(scores) == {"teacher", "baseline", "decomposed", "two_stream"}
    assert len(scores["decomposed"]["classes"]) == len(scores["teacher"]["classes"]) > 1


def test_mlflow_holds_one_job_run_with_its_stages_and_pictures(plain):
    from mlflow import MlflowClient

    client = MlflowClient(plain["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    assert {run.info.run_name for run in runs} == {"sprites", "teacher", "baseline", "decomposed"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    pictures = {entry.path for entry in client.list_artifacts(parents[0].info.run_id, "pictures")}
    assert pictures >= {"pictures/timelines.png", "pictures/curves-teacher.png", "pictures/curves-decomposed.png"}


def test_detect_prints_detections_on_a_test_video(plain, tmp_path):
    from tadscale.data.manifest import read_manifest
    from tadscale.data.storage import read_range

    row = read_manifest(plain["TADSCALE_DATA"]).subset("test").row(0)
    video = tmp_path / f"{row.key}.mp4"
    video.write_bytes(read_range(row.url, row.video_offset, row.video_bytes, row.video_sha256))
    page = tmp_path / "timeline.html"
    command = [
        "tadscale",
        "detect",
        f"models:/{MODEL}@champion",
        str(video),
        "--json",
        "--min-score",
        "0",
        "--html",
        str(page),
    ]
    found = json.loads(_call(*command, env=plain))["results"]
    assert set(found) == {row.key}
    stored = json.loads(Path(plain["TADSCALE_STORAGE"], "sprites", "evaluation", "decomposed.json").read_text())
    expected = stored["results"][row.key]
    assert len(found[row.key]) == len(expected) > 0
    for one, other in zip(found[row.key], expected, strict=True):
        assert one["label"] == other["label"]
        assert one["segment"] == pytest.approx(other["segment"], abs=1e-3)
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    assert row.key in page.read_text()


def test_running_again_trains_nothing_and_evaluating_alone_gives_the_same_scores(plain):
    scores = Path(plain["TADSCALE_STORAGE"], "sprites", "evaluation", "scores.json")
    before = scores.read_text()
    scores.unlink()
    output = _call("jobs/evaluate.yaml", *OVERRIDES, env=plain)
    assert "step" not in output
    assert scores.read_text() == before


def test_submitted_to_a_cluster_with_s3_the_job_registers_the_same_model(plain, s3_url, tmp_path, monkeypatch):
    """And its password to the object store is in nothing that it leaves: logs of Ray, records of MLflow, the bucket."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)  # the server here takes any
    state = ["--state-dir", str(tmp_path / "cluster")]
    places = {
        "TADSCALE_STORAGE": f"{s3_url}/runs",
        "TADSCALE_DATA": f"{s3_url}/data",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    try:
        up = _call(sys.executable, "cluster/local.py", *state, "up", "--nodes", "2", "--free-ports", env=places)
        exports = dict(
            line.removeprefix("export ").split("=", 1) for line in up.splitlines() if line.startswith("export ")
        )
        exports = {name: value.strip("'\"") for name, value in exports.items()}
        # Without the baseline: a third less to start, and the student is the same without it.
        command = ("ray", "job", "submit", "--", "jobs/distill.yaml", *OVERRIDES, "--set", "baseline=false")
        output = _call(*command, env=places | exports)
        assert f"{MODEL} version 1 (champion)" in output
        _call("ray", "job", "submit", "--", "jobs/distill.yaml", "--set", "sede=1", env=places | exports, expect=1)
        said = _call("tadscale", "logs", env=places)
        assert "sprites begins" in said and f"{MODEL} version 1 (champion)" in said and "ended on" in said
    finally:
        ray_logs = json.loads((tmp_path / "cluster/state.json").read_text())["temp_dir"]
        left = [path for folder in (tmp_path, Path(ray_logs)) for path in folder.rglob("*") if path.is_file()]
        assert any(path.name.startswith("raylet") for path in left)
        assert not [path for path in left if CANARY.encode() in path.read_bytes()]
        _call(sys.executable, "cluster/local.py", *state, "down", env=places)
    bucket, place = open_filesystem(s3_url)
    assert not [key for key in bucket.find(place) if CANARY.encode() in bucket.cat_file(key)]
    cluster_record = Registry(places["MLFLOW_TRACKING_URI"]).record(MODEL)
    plain_record = Registry(plain["MLFLOW_TRACKING_URI"]).record(MODEL)
    assert cluster_record == plain_record
