"""`tadscale logs`: what a job said, read back."""

import logging
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tadscale.cli import logs, main
from tadscale.runtime.jobs.lease import LEASE_NAME, Holder, process_space
from tadscale.runtime.tracking import journal
from tadscale.runtime.tracking.journal import DRIVER, Journal, Line
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401

OURS = logging.getLogger("tadscale.somewhere")


@pytest.fixture
def store(storage: Path) -> str:  # noqa: F811
    """Of two jobs, `first` and `second`."""
    for name in ("first", "second"):
        tracked = track_job(TrackingConfig(), job=name, storage=str(storage), settings={})
        with tracked as run, Journal(str(storage / name), DRIVER):
            OURS.info("data       12 videos for %s", name)
            OURS.warning("%s is slow", name)
    return run.tracking_uri


def shown(capsys, *arguments: str) -> list[str]:
    assert main(["logs", *arguments]) == 0
    return [line[16:] for line in capsys.readouterr().out.splitlines()]


def test_the_latest_job_is_shown_unless_one_is_named(store: str, capsys):
    lines = shown(capsys, "--tracking-uri", store)
    assert lines[0].split() == ["job", "data", "12", "videos", "for", "second"]
    assert "WARNING: second is slow" in lines[1] and "ended on" in lines[2]
    assert "for first" in shown(capsys, "first", "--tracking-uri", store)[0]


def test_the_last_lines_alone_and_warnings_alone(store: str, capsys):
    assert len(shown(capsys, "--last", "1", "--tracking-uri", store)) == 1
    assert shown(capsys, "--last", "0", "--tracking-uri", store) == []
    [slow] = shown(capsys, "--warnings", "--tracking-uri", store)
    assert "is slow" in slow


def test_a_job_under_way_is_followed_to_its_end(storage: Path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(journal, "FLUSH_S", 0.02)
    monkeypatch.setattr(logs, "FOLLOW_S", 0.02)
    with track_job(TrackingConfig(), job="long", storage=str(storage), settings={}) as run:
        told = threading.Event()

        def work() -> None:
            with Journal(str(storage / "long"), DRIVER):
                OURS.info("begins")
                told.wait(10)
                OURS.info("goes on")

        worker = threading.Thread(target=work)
        worker.start()
        threading.Timer(0.3, told.set).start()
        lines = shown(capsys, "long", "--follow", "--tracking-uri", run.tracking_uri)
        worker.join()
    assert [line.split(None, 1)[1].partition(" on ")[0] for line in lines] == ["begins", "goes on", "ended"]


def test_a_killed_driver_is_not_followed_for_ever(storage: Path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(logs, "FOLLOW_S", 0.02)
    with track_job(TrackingConfig(), job="killed", storage=str(storage), settings={}) as run:
        pass
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    holder = Holder(token="x", host=socket.gethostname(), pid=dead.pid, since_unix_s=0.0, processes=process_space())
    (storage / "killed").mkdir(exist_ok=True)
    (storage / "killed" / LEASE_NAME).write_text(holder.model_dump_json())
    assert main(["logs", "killed", "--follow", "--tracking-uri", run.tracking_uri]) == 1
    assert f"process {dead.pid} on" in capsys.readouterr().err


def lines(*facts: tuple[str, bool]) -> list[Line]:
    return [Line(float(at), "INFO", who, "", ends) for at, (who, ends) in enumerate(facts)]


def test_a_job_is_over_by_its_drivers_last_word():
    """Not by a worker's that trails behind, and not where another attempt has begun since."""
    assert logs._is_over(lines((DRIVER, False), (DRIVER, True), ("teacher rank 0", True)), False)
    assert not logs._is_over(lines((DRIVER, True), (DRIVER, False)), False)
    assert not logs._is_over(lines(("teacher rank 0", True)), False)
    assert logs._is_over(lines(("teacher rank 0", True)), True)


def test_what_is_not_there_is_said(store: str, storage: Path, capsys):  # noqa: F811
    assert main(["logs", "third", "--tracking-uri", store]) == 1
    assert "has no run of 'third'" in capsys.readouterr().err
    with track_job(TrackingConfig(), job="old", storage=str(storage), settings={}):
        pass
    assert main(["logs", "old", "--tracking-uri", store]) == 0
    assert "nothing is kept in" in capsys.readouterr().out
