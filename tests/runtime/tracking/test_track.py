import json
import math
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tadscale.runtime.cluster.stopping import Preempted
from tadscale.runtime.tracking.run import PARENT_TAG, Run, flatten
from tadscale.runtime.tracking.track import TrackingConfig, resolve_tracking_uri, track_job, track_stage
from tests.runtime.tracking.mlflow_store import empty_database, s3_storage, storage  # noqa: F401

SETTINGS = {"seed": 3, "train": {"lr": 0.1, "head": "actionformer", "sizes": [1, 2]}}


def job(storage: Path, **changes: Any) -> Any:  # noqa: F811
    arguments = {"job": "distill", "storage": str(storage), "settings": SETTINGS} | changes
    return track_job(TrackingConfig(), **arguments)


def status(run: Run) -> str:
    return run.client.get_run(run.run_id).info.status


def artifact(run: Run, name: str, folder: Path) -> bytes:
    return Path(run.client.download_artifacts(run.run_id, name, str(folder))).read_bytes()


def test_a_job_is_a_parent_run_with_its_stages_nested(storage: Path, tmp_path: Path) -> None:  # noqa: F811
    with job(storage, tags={"tadscale.seed": "3"}) as parent:
        assert status(parent) == "RUNNING"
        with track_stage(parent, "teacher") as teacher:
            teacher.log_metrics({"loss": 2.0, "mAP@0.5": 0.25}, step=1)
        with track_stage(parent, "student", tags={"tadscale.plan_digest": "abc"}) as student:
            pass
    data = parent.client.get_run(parent.run_id).data
    assert data.params == {"seed": "3", "train.lr": "0.1", "train.head": "actionformer", "train.sizes": "[1, 2]"}
    assert data.tags["tadscale.job"] == "distill" and data.tags["tadscale.seed"] == "3"
    assert json.loads(artifact(parent, "job.json", tmp_path)) == SETTINGS
    for stage, name in ((teacher, "teacher"), (student, "student")):
        assert stage.client.get_run(stage.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
        assert stage.client.get_run(stage.run_id).info.run_name == name
    assert teacher.client.get_run(teacher.run_id).data.metrics == {"loss": 2.0, "mAP_0.5": 0.25}
    assert {status(run) for run in (parent, teacher, student)} == {"FINISHED"}
    assert len(parent.client.search_runs([parent.experiment_id])) == 3  # nobody opened a run of his own


def test_a_series_keeps_its_steps_in_batches(storage: Path) -> None:  # noqa: F811
    with job(storage) as run:
        for step in range(1203):  # more than one batch holds
            run.log_metrics({"loss": 1 / (step + 1), "lr": 0.1}, step)
        run.log_metrics({"grad_norm": math.nan}, 0)
    history = run.client.get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)] == [
        (step, 1 / (step + 1)) for step in range(1203)
    ]
    assert math.isnan(run.client.get_run(run.run_id).data.metrics["grad_norm"])


def test_metrics_wait_for_company_but_not_for_ever(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with job(storage) as run:
        run.log_metrics({"loss": 1.0})
        assert not run.client.get_run(run.run_id).data.metrics
        monkeypatch.setattr("tadscale.runtime.tracking.run.FLUSH_S", 0.0)
        run.log_metrics({"lr": 1.0})
        assert run.client.get_run(run.run_id).data.metrics == {"loss": 1.0, "lr": 1.0}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("shard http://u:pw@host/x is bad"), "FAILED"),
        (Preempted("SIGTERM"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(75), "KILLED"),
        (SystemExit(0), "FINISHED"),
    ],
)
def test_the_status_says_how_a_job_ended(storage: Path, error: BaseException, expected: str) -> None:  # noqa: F811
    with pytest.raises(type(error)), job(storage) as parent, track_stage(parent, "teacher") as stage:
        stage.log_metrics({"loss": 1.0})
        raise error
    assert status(parent) == status(stage) == expected
    data = stage.client.get_run(stage.run_id).data
    assert data.metrics == {"loss": 1.0}
    if expected == "FAILED":
        assert data.tags["tadscale.error"] == "ValueError: shard http://[redacted]@host/x is bad"


def test_an_unfinished_job_is_continued(storage: Path) -> None:  # noqa: F811
    with pytest.raises(RuntimeError), job(storage) as first, track_stage(first, "teacher") as first_stage:
        raise RuntimeError("node lost")
    with job(storage) as second:
        assert second.run_id == first.run_id and status(second) == "RUNNING"
        with track_stage(second, "teacher") as stage:
            assert stage.run_id == first_stage.run_id
        with track_stage(second, "student") as other:
            assert other.run_id != first_stage.run_id
    assert status(second) == status(stage) == "FINISHED"
    assert second.client.get_run(second.run_id).data.tags["tadscale.error"] == ""


def test_a_job_that_goes_on_makes_no_second_run_of_a_stage_that_is_over(storage: Path) -> None:  # noqa: F811
    for _ in range(3):
        with pytest.raises(Preempted), job(storage) as parent:
            with track_stage(parent, "teacher") as teacher:
                teacher.log_metrics({"loss": 1.0})
            with track_stage(parent, "student"):
                raise Preempted("SIGTERM")
    with job(storage) as parent:
        for stage in ("teacher", "student"):
            with track_stage(parent, stage):
                pass
    nested = parent.client.search_runs([parent.experiment_id], f"tags.`{PARENT_TAG}` = '{parent.run_id}'")
    assert sorted((one.info.run_name, one.info.status) for one in nested) == [
        ("student", "FINISHED"),
        ("teacher", "FINISHED"),
    ]
    with job(storage) as other, track_stage(other, "teacher") as again:
        assert again.run_id != teacher.run_id  # the finished job is another one's parent


def test_a_killed_process_leaves_a_run_that_can_be_continued(storage: Path) -> None:  # noqa: F811
    script = (
        "import os, signal, sys\n"
        "from tadscale.runtime.tracking.track import TrackingConfig, track_job\n"
        "with track_job(TrackingConfig(), job='distill', storage=sys.argv[1], settings={'seed': 3}) as run:\n"
        "    print(run.run_id, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(storage)], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with job(storage, settings={"seed": 3}) as run:
        assert run.run_id == done.stdout.split()[-1]


def test_what_is_another_job_gets_another_run(storage: Path) -> None:  # noqa: F811
    with job(storage) as finished:
        pass
    seen = {finished.run_id}
    variants: list[dict[str, Any]] = [{}, {"settings": {"seed": 4}}, {"job": "other"}]
    for changes in variants:
        with pytest.raises(RuntimeError), job(storage, **changes) as run:
            raise RuntimeError("fails")
        assert run.run_id not in seen
        seen.add(run.run_id)
    assert status(finished) == "FINISHED"


def test_no_secret_reaches_the_store(storage: Path) -> None:  # noqa: F811
    settings = {
        "tracking": {"tracking_uri": "postgresql://me:hunter2@db/mlflow"},
        "s3": {"secret_access_key": "hunter2", "urls": ["https://me:hunter2@host/a"]},
    }
    with (
        pytest.raises(ValueError, match="hunter2"),
        job(storage, settings=settings, tags={"note": "token=hunter2"}) as run,
    ):
        run.log_text("password: hunter2", "notes/note.txt")
        run.log_dict({"token": "hunter2"}, "notes/note.json")
        raise ValueError("cannot reach https://me:hunter2@host")
    files = [path for path in storage.rglob("*") if path.is_file()]
    assert {"job.json", "note.txt", "note.json", "mlflow.db"} <= {path.name for path in files}
    for path in files:
        assert b"hunter2" not in path.read_bytes(), path
    # A rotated password does not make it another job.
    settings["s3"]["secret_access_key"] = "hunter3"
    with job(storage, settings=settings) as again:
        assert again.run_id == run.run_id


def test_a_run_goes_to_another_process_by_its_id(storage: Path) -> None:  # noqa: F811
    with job(storage) as run:
        assert run.client
        with pickle.loads(pickle.dumps(run)) as worker:
            worker.log_metrics({"loss": 1.0}, step=7)
        assert run.client.get_run(run.run_id).data.metrics == {"loss": 1.0}
        assert status(run) == "RUNNING"


def test_artifacts_of_every_kind(storage: Path, tmp_path: Path) -> None:  # noqa: F811
    source = tmp_path / "source"
    source.mkdir()
    (source / "curve.png").write_bytes(b"png")
    with job(storage) as run:
        run.log_file(source / "curve.png", "plots")
        run.log_folder(source, "all")
        run.log_bytes(b"{}\n", "quarantine.jsonl")
    assert artifact(run, "plots/curve.png", tmp_path) == artifact(run, "all/curve.png", tmp_path) == b"png"
    assert artifact(run, "quarantine.jsonl", tmp_path) == b"{}\n"
    assert run.artifact_uri.startswith((storage / "mlflow-artifacts").as_uri())


def test_artifacts_on_s3(s3_storage: str, storage: Path, tmp_path: Path) -> None:  # noqa: F811
    config = TrackingConfig(tracking_uri=f"sqlite:///{storage / 'mlflow.db'}", experiment="on s3")
    with track_job(config, job="distill", storage=s3_storage, settings=SETTINGS) as run:
        run.log_text("hello", "notes/hello.txt")
    assert run.artifact_uri.startswith(f"{s3_storage}/mlflow-artifacts/")
    assert artifact(run, "notes/hello.txt", tmp_path) == b"hello"
    assert json.loads(artifact(run, "job.json", tmp_path)) == SETTINGS


def test_where_runs_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_tracking_uri(TrackingConfig(), str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve_tracking_uri(TrackingConfig(), tmp_path.as_uri()) == f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(
        ValueError, match=r"tracking\.tracking_uri is not set, and a database cannot live in s3://bucket"
    ):
        resolve_tracking_uri(TrackingConfig(), "s3://bucket/runs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert resolve_tracking_uri(TrackingConfig(), "s3://bucket/runs") == "http://server:5000"
    assert resolve_tracking_uri(TrackingConfig(tracking_uri="sqlite:///x.db"), "s3://b") == "sqlite:///x.db"


def test_a_deleted_experiment_is_not_brought_back(storage: Path) -> None:  # noqa: F811
    with job(storage) as run:
        pass
    run.client.delete_experiment(run.experiment_id)
    with pytest.raises(ValueError, match="has been deleted"), job(storage):
        pass


def test_flatten() -> None:
    tree = {"a": {"b": 1, "c": {"d": None}}, "e": "text", "f": [1, "x"], "g": {}, "h": True}
    assert dict(flatten(tree)) == {"a.b": "1", "a.c.d": "null", "e": "text", "f": '[1, "x"]', "g": "{}", "h": "true"}
