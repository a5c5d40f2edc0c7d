"""A note in the tracking store, also by a user who may not write to the administrator's experiment."""

from pathlib import Path
from typing import Any

import pytest

from tadscale.runtime.jobs.preflight import tracking
from tadscale.runtime.jobs.preflight.tracking import NOTE_TAG, note_and_read
from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.patience import NotAllowed
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401
from tests.runtime.tracking.user import User


@pytest.fixture
def uri(storage: Path) -> str:  # noqa: F811
    return f"sqlite:///{storage}/mlflow.db"


@pytest.fixture
def of_a_user(uri: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    user = User(make_client(uri))
    monkeypatch.setattr(tracking, "make_client", lambda uri: user)
    return user


@pytest.mark.parametrize("experiment", ["new", None])
def test_a_user_of_no_experiment_may_begin_one(experiment, uri, of_a_user):
    note_and_read(uri, experiment)
    assert NOTE_TAG not in of_a_user.client.get_experiment("0").tags
    assert len(of_a_user.client.search_experiments()) == 1  # none is left by the question


def test_a_note_goes_to_an_experiment_that_is_there(uri, of_a_user):
    own = of_a_user.create_experiment("own")
    note_and_read(uri, "own")
    assert NOTE_TAG in of_a_user.client.get_experiment(own).tags


def test_a_database_that_is_there_is_asked_whatever_its_address_says_besides(uri):
    note_and_read(f"{uri}?timeout=60", None)
    assert NOTE_TAG in make_client(uri).get_experiment("0").tags


def test_another_s_experiment_is_refused_by_name(uri, of_a_user):
    of_a_user.client.create_experiment("theirs")
    with pytest.raises(NotAllowed, match=r"does not allow this \(Permission denied\)"):
        note_and_read(uri, "theirs")
