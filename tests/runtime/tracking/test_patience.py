"""MLflow away: what waits, what goes on, and what is said."""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tadscale.errors import UserError
from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.patience import PatientClient, TrackingAway, is_away
from tadscale.runtime.tracking.run import Run
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401
from tests.s3 import free_port


@pytest.fixture
def answering() -> Iterator[Callable[[int], str]]:
    """Makes a server that gives the same answer to everything, such as a proxy's, and says its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"<html>\nno</html>")

            do_POST = do_GET

            def log_message(self, *words: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Answer))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def away() -> Exception:
    from mlflow.exceptions import MlflowException

    return MlflowException("API request failed with exception: Connection refused\nmore")


def revoked() -> Exception:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import UNAUTHENTICATED

    return MlflowException("API request failed with error code 401", UNAUTHENTICATED)


class Store:
    """A client that is away for some calls."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def get_run(self, run_id: str) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise away()
        return run_id


def test_a_call_waits_for_a_store_that_comes_back(monkeypatch):
    monkeypatch.setattr("tadscale.runtime.tracking.patience.RETRY_S", 0.01)
    store = Store(failures=3)
    assert PatientClient(store, "http://x", 60.0).get_run("a") == "a"
    assert store.calls == 4


def test_a_store_that_stays_away_ends_in_one_line(monkeypatch):
    monkeypatch.setattr("tadscale.runtime.tracking.patience.RETRY_S", 0.01)
    with pytest.raises(TrackingAway) as caught:
        PatientClient(Store(failures=999), "http://x", 0.1).get_run("a")
    assert "http://x does not answer" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_is_not_waited_for():
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

    assert not is_away(MlflowException("no such run", RESOURCE_DOES_NOT_EXIST))
    assert not is_away(PermissionError("no"))


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "does not know who asks .*MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, "does not allow this .*MLFLOW_TRACKING_USERNAME"),
        (404, "is no MLflow server.*check the address"),
    ],
)
def test_a_server_that_lets_nobody_in_or_is_another_is_said_at_once(status, says, answering):
    url = answering(status)
    client = PatientClient(make_client(url), url, patience_s=600.0)
    started = time.monotonic()
    for call in (client.search_experiments, lambda: client.get_registered_model("a"), lambda: client.get_run("a" * 32)):
        with pytest.raises(UserError, match=f"{url} {says}") as refusal:
            call()
        assert "\n" not in str(refusal.value)
    assert time.monotonic() - started < 30


def test_a_model_that_is_not_there_is_no_refusal(storage):  # noqa: F811
    from mlflow.exceptions import MlflowException

    client = PatientClient(make_client(f"sqlite:///{storage}/mlflow.db"), "here", 0.0)
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model("a")


@pytest.mark.parametrize(("status", "away"), [(401, False), (404, False), (503, True)])
def test_of_an_artifact_that_the_server_hands_through_its_answer_counts(status, away):
    from requests import HTTPError, Response

    answer = Response()
    answer.status_code = status
    assert is_away(HTTPError("no", response=answer)) is away


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/mlflow-artifacts/x"),
        OSError(errno.EROFS, os.strerror(errno.EROFS), "/runs/mlflow-artifacts/x"),
        shutil.Error([("model", "/runs/x", f"[Errno 122] {os.strerror(errno.EDQUOT)}: '/runs/x'")]),
    ],
)
def test_a_disk_that_is_full_is_not_waited_for(failure):
    def upload() -> None:
        raise failure

    client = PatientClient(SimpleNamespace(log_artifact=upload), "sqlite:////runs/mlflow.db", patience_s=600.0)
    with pytest.raises(UserError, match=r"cannot write .* is full or read-only. Make room"):
        client.log_artifact()


def test_a_full_database_is_not_waited_for(storage):  # noqa: F811
    uri = f"sqlite:///{storage}/mlflow.db"
    client = PatientClient(make_client(uri), uri, patience_s=600.0)
    client.search_experiments()

    @event.listens_for(Engine, "connect")
    def fill(connection: Any, record: object) -> None:
        [[pages]] = connection.execute("PRAGMA page_count").fetchall()
        connection.execute(f"PRAGMA max_page_count={pages}")

    client._tracking_client.store.engine.dispose()  # its next connection has no room
    try:
        with pytest.raises(UserError, match=r"cannot write .* is full or read-only. Make room"):
            client.create_run("0", tags={f"tag-{place}": "x" * 5000 for place in range(100)})
    finally:
        event.remove(Engine, "connect", fill)


def test_a_server_that_is_down_when_a_job_starts_is_said_within_30_s(tmp_path):
    config = TrackingConfig(tracking_uri=f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    job = track_job(config, job="a", storage=str(tmp_path), settings={})
    with pytest.raises(TrackingAway, match="is the server up"), job:
        pytest.fail("nobody answers")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("failure", "said"),
    [(away, "store does not answer$"), (revoked, "does not know who asks .*: set MLFLOW_TRACKING_USERNAME and")],
)
def test_metrics_outlive_a_store_that_does_not_take_them_for_a_while(
    storage,  # noqa: F811
    monkeypatch,
    caplog,
    failure,
    said,
):
    monkeypatch.setattr("tadscale.runtime.tracking.run.FLUSH_S", 0.0)
    with track_job(TrackingConfig(), job="a", storage=str(storage), settings={}) as run:
        client = make_client(run.tracking_uri)

        class Flaky:
            failing = True

            def log_batch(self, *args, **kwargs):
                if self.failing:
                    raise failure()
                client.log_batch(*args, **kwargs)

        flaky = Flaky()
        run.__dict__["_impatient"] = PatientClient(flaky, "here", 0.0)
        for step in range(5):
            run.log_metrics({"loss": 1.0}, step)
        assert run.logged_steps("loss") == set()
        flaky.failing = False
        run.log_metrics({"loss": 1.0}, 5)
        assert [point.step for point in client.get_metric_history(run.run_id, "loss")] == list(range(6))
        [warning] = [one.getMessage() for one in caplog.records if "training goes on" in one.getMessage()]
        assert re.search(said, warning)
        assert isinstance(run, Run)


def test_metrics_that_the_store_refuses_are_an_error_at_the_end(answering):
    with pytest.raises(UserError, match=r"does not know who asks .*PASSWORD"), Run(answering(401), "a") as run:
        run._flushed_at = 0.0  # long ago: sent at once
        run.log_metrics({"loss": 1.0})
        assert len(run._pending) == 1
