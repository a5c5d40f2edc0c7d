"""A real MLflow server that goes away while a job runs, and comes back."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.test_distill import BIN, OVERRIDES, ROOT
from tests.mlflow_server import MlflowServer

AWAY_S = 20.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def server(tmp_path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def start(server, tmp_path) -> Iterator[Callable[[], subprocess.Popen]]:
    started: list[subprocess.Popen] = []
    places = {
        "TADSCALE_STORAGE": str(tmp_path / "runs"),
        "TADSCALE_DATA": str(tmp_path / "data"),
        "MLFLOW_TRACKING_URI": server.url,
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    command = [str(BIN / "tadscale"), "run", "jobs/distill.yaml", *OVERRIDES, "--set", "optim.epochs=4"]

    def begin() -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **places},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.05)


def test_a_job_outlives_its_server_and_the_record_is_whole(server, start, tmp_path):
    from mlflow import MlflowClient

    process = start()
    wait_for(tmp_path / "runs/sprites/teacher/quarantine.jsonl", process)
    server.kill()
    time.sleep(AWAY_S)
    server.start()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    assert "Traceback" not in output
    client = MlflowClient(server.url)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert {one.info.status for one in runs} == {"FINISHED"}
    [teacher] = [one for one in runs if one.info.run_name == "teacher"]
    history = client.get_metric_history(teacher.info.run_id, "train/loss")
    assert sorted(point.step for point in history) == list(range(12))


def test_sigterm_is_obeyed_while_the_server_is_away(server, start, tmp_path):
    process = start()
    wait_for(tmp_path / "runs/sprites/teacher/result.json", process)  # between stages: the job waits for its server
    server.kill()
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 75, output[-3000:]
    assert "Traceback" not in output
    assert time.monotonic() - told < 100
