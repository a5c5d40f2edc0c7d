"""The tracking store: it answers, takes a note and gives it back."""

import time
from collections.abc import Iterator
from typing import Any

from tadscale.errors import UserError
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.jobs.preflight.storage import PROBE, write_and_read
from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.patience import NotAllowed, PatientClient
from tadscale.runtime.tracking.redact import redact_text
from tadscale.runtime.tracking.store_lock import database_file
from tadscale.runtime.tracking.track import find_experiment

NOTE_TAG = "tadscale.preflight"
DEFAULT_EXPERIMENT = "0"  # MLflow makes it with every store


def tracking(facts: Facts) -> Iterator[str]:
    """Runs can be recorded."""
    note_and_read(facts.tracking_uri, facts.job.tracking.experiment)
    yield from ()


def note_and_read(uri: str, experiment: str | None) -> None:
    """Write a tag to the experiment, or to MLflow's default one where it is still to be made or none is named, and read it
    back.

    A database that is still to be made is not made: its folder must be there to write to.

    Raises:
        UserError: the store refuses, or the experiment was deleted; says what, where and what to do.
        TrackingAway: nobody answers.
        StorageError: the database's folder cannot be written to.
    """
    database = database_file(uri)
    if database is not None and not database.exists():
        write_and_read(str(database.parent), PROBE)
        return
    where = redact_text(uri)
    try:
        client = PatientClient(make_client(uri), where, patience_s=0.0)
        found = find_experiment(client, experiment) if experiment else None  # a server answers 400 to no name
        if found:
            _note(client, found.experiment_id)
        else:
            _note_in_default(client)
    except (UserError, OSError):
        raise
    except Exception as error:  # MLflow's own, SQLAlchemy's, a driver's that is not installed
        words = redact_text((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
        raise UserError(
            f"the tracking store {where} cannot be used ({words}): is the address right, and is it MLflow's? See "
            "tracking.tracking_uri and MLFLOW_TRACKING_URI"
        ) from error


def _note_in_default(client: Any) -> None:
    """Where that experiment is the administrator's, as on a server with users, it must do that the store knows who asks."""
    try:
        _note(client, DEFAULT_EXPERIMENT)
    except NotAllowed:
        client.search_experiments(max_results=1)


def _note(client: Any, experiment_id: str) -> None:
    note = f"{time.time():.6f}"
    client.set_experiment_tag(experiment_id, NOTE_TAG, note)
    if client.get_experiment(experiment_id).tags.get(NOTE_TAG) != note:
        raise UserError("a note that was written is not what is read back: do several servers answer at this address?")
