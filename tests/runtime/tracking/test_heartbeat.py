"""A run that lives says so in its store, whatever the store answers, and stops saying it with its end."""

import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, UNAUTHENTICATED

from tadscale.runtime.tracking import heartbeat
from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401

REFUSED = MlflowException("a proxy that is being rolled out", error_code=RESOURCE_DOES_NOT_EXIST)


def until(what: Any) -> None:
    deadline_s = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_it_beats_while_it_lives_and_no_longer(storage: Path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)

    def heard() -> str:
        return client.get_run(run.run_id).data.tags[heartbeat.HEARD_TAG]

    with track_job(TrackingConfig(), job="lives", storage=str(storage), settings={}) as run:
        client = make_client(run.tracking_uri)
        client.set_tag(run.run_id, heartbeat.HEARD_TAG, "0")
        until(lambda: heard() != "0")
    client.set_tag(run.run_id, heartbeat.HEARD_TAG, "0")
    time.sleep(0.3)
    assert heard() == "0"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("nobody answers"), []),
        (REFUSED, ["a proxy that is being rolled out"]),
        (MlflowException("revoked", UNAUTHENTICATED), ["set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"]),
    ],
)
def test_whatever_a_store_answers_it_is_tried_again(storage: Path, monkeypatch, caplog, error, said):  # noqa: F811
    asked = []

    class Store:
        def set_tag(self, *tag: str) -> None:
            asked.append(tag)
            raise error

    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    monkeypatch.setattr(heartbeat, "make_client", lambda uri: Store())
    with track_job(TrackingConfig(), job="patient", storage=str(storage), settings={}):
        until(lambda: len(asked) >= 3)
    warnings = [one.getMessage() for one in caplog.records if "sign of life" in one.getMessage()]
    assert len(warnings) == len(said)
    assert all(words in warning for words, warning in zip(said, warnings, strict=True))
