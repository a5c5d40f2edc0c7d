"""SIGTERM at any point of a job: exit code 75, and the same command goes on from there to the same end. Ctrl-C: 130."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.end_to_end.test_distill import BIN, OVERRIDES, ROOT

COMMAND = [str(BIN / "tadscale"), "run", "jobs/distill.yaml", *OVERRIDES, "--set", "checkpoint_every_steps=1"]
# In the order of a job: each becomes true once, in the run that gets there.
POINTS: dict[str, Callable[[Path], bool]] = {
    "the job begins": lambda run: (run / "lease.json").exists(),
    "data are drawn": lambda run: any((run.parents[1] / "data").glob("*")),
    "a stage begins": lambda run: (run / "teacher/stage.json").exists(),
    "workers start": lambda run: (run / "teacher/quarantine.jsonl").exists(),
    "a checkpoint is written": lambda run: any((run / "teacher/checkpoints").glob("step-*")),
    "the last step": lambda run: (run / "teacher/checkpoints/step-00000003").exists(),
    "between stages": lambda run: (run / "teacher/result.json").exists(),
    "a student's data are waited for": lambda run: (run / "decomposed/quarantine.jsonl").exists(),
    "evaluation": lambda run: (run / "decomposed/result.json").exists(),
    "publishing": lambda run: (run / "evaluation/scores.json").exists(),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("stopped")
    return {
        "TADSCALE_STORAGE": str(folder / "runs"),
        "TADSCALE_DATA": str(folder / "data"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }


@pytest.fixture
def start(places) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts the job, with more options; what is left of it is ended with the test."""
    started: list[subprocess.Popen] = []

    def begin(*options: str) -> subprocess.Popen:
        environment = {**os.environ, **places, "PATH": f"{BIN}:{os.environ['PATH']}"}
        started.append(
            subprocess.Popen(
                [*COMMAND, *options],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # whatever the tests inherited
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def _holds_the_lease(process: subprocess.Popen, run: Path) -> bool:
    """Whether the process has come so far that it answers."""
    with suppress(FileNotFoundError, ValueError):  # not there yet, or half written
        return json.loads((run / "lease.json").read_text())["pid"] == process.pid
    return False


@pytest.mark.parametrize("point", POINTS)
def test_sigterm_is_obeyed_when(point, start, places):
    run = Path(places["TADSCALE_STORAGE"], "sprites")
    process = start()
    # Steps are so short that the run before may have got here as it ended: then it is told as soon as it can hear.
    while not (_holds_the_lease(process, run) and POINTS[point](run)):
        assert process.poll() is None, f"ended before {point}: {process.communicate()[0][-3000:]}"
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 75, output[-3000:]
    assert "the same command goes on" in output
    assert time.monotonic() - told < 100
    assert not (run / "lease.json").exists()


def test_then_the_same_command_ends_the_job_every_step_once_on_record(start, places):
    from mlflow import MlflowClient

    process = start()
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output[-3000:]
    assert "sprites-detector version 1 (champion)" in output
    run = Path(places["TADSCALE_STORAGE"], "sprites")
    for stage in ("teacher", "baseline", "decomposed"):
        steps = [json.loads(line)["step"] for line in (run / stage / "log.jsonl").read_text().splitlines()]
        assert steps == [0, 1, 2]
    client = MlflowClient(places["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert sorted(one.info.run_name for one in runs) == ["baseline", "decomposed", "sprites", "teacher"]
    assert {one.info.status for one in runs} == {"FINISHED"}
    for one in runs:
        if one.info.run_name != "sprites":
            history = client.get_metric_history(one.info.run_id, "train/loss")
            assert sorted(point.step for point in history) == [0, 1, 2]
    assert not (run / "lease.json").exists()


def _said(run: Path) -> str:
    """What the job has said so far."""
    return "".join(path.read_text() for path in (run / "logs").glob("*.jsonl"))


def _press_ctrl_c(process: subprocess.Popen) -> None:
    """As a terminal does: the signal goes to all processes of the group, Ray's among them."""
    os.killpg(process.pid, signal.SIGINT)


def test_ctrl_c_leaves_a_checkpoint_of_the_stage_that_trains(start, places):
    process = start("--set", "name=interrupted", "--set", "optim.epochs=200", "--set", "checkpoint_every_steps=100000")
    run = Path(places["TADSCALE_STORAGE"], "interrupted")
    while "step " not in _said(run):
        assert process.poll() is None, f"ended before its first step: {process.communicate()[0][-3000:]}"
        time.sleep(0.5)
    _press_ctrl_c(process)
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 130, output[-3000:]
    assert "interrupted: " in output and "its checkpoint is written" in output
    assert any((run / "teacher/checkpoints").glob("step-*"))
    assert not (run / "lease.json").exists()


def test_a_second_ctrl_c_waits_for_nothing(start, places):
    process = start("--set", "name=left")
    run = Path(places["TADSCALE_STORAGE"], "left")
    while not (_holds_the_lease(process, run) and POINTS["workers start"](run)):
        assert process.poll() is None, f"ended before its workers started: {process.communicate()[0][-3000:]}"
        time.sleep(0.01)
    _press_ctrl_c(process)
    time.sleep(1)
    _press_ctrl_c(process)
    told = time.monotonic()
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 130, output[-3000:]
    assert "interrupted: " in output and "the same command goes on" in output
    assert "its checkpoint is written" not in output
    assert time.monotonic() - told < 60
    assert not (run / "lease.json").exists()
