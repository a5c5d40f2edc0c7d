"""Runs in MLflow: one parent run a job, its stages nested in it, every call with an explicit run id.

**Running a job again.** A job is known by its name, its storage and its settings. If its latest run did not finish (it
failed, was killed, or its process vanished and left it RUNNING), the next start continues that run, just as training
continues from its checkpoint: a preempted job is one line in MLflow and not ten. A finished run is never touched, and
changed settings are another experiment: both start a new run.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, NonNegativeFloat

from tadscale.config import Config
from tadscale.data.storage import join
from tadscale.errors import UserError
from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.heartbeat import beating
from tadscale.runtime.tracking.patience import PatientClient
from tadscale.runtime.tracking.redact import redact, redact_text
from tadscale.runtime.tracking.run import PARENT_TAG, Run

JOB_TAG, STORAGE_TAG, SETTINGS_TAG, STAGE_TAG = (
    "tadscale.job", "tadscale.storage", "tadscale.settings_digest", "tadscale.stage"
)  # fmt: skip
ERROR_TAG = "tadscale.error"
CELL_TAG = "tadscale.cell"
FIRST_PATIENCE_S = 5.0  # a store that is away when a job starts is a mistake, or somebody's to mend
LAST_PATIENCE_S = 5.0  # at the end of a job that failed or was told to stop
MAX_MODEL_NAME = 256  # characters, the column's width in MLflow's database
REFUSED_IN_NAMES = ("/", ":", "'")  # the first two by the registry; the third ends the text in a search of it
DATABASE_NAME, ARTIFACTS_NAME = "mlflow.db", "mlflow-artifacts"

log = logging.getLogger(__name__)


def check_registrable(name: str) -> str:
    """The name, if MLflow's registry takes it, and a search for it can be written. Raises `ValueError`."""
    if not name.strip() or name.startswith(".") or len(name) > MAX_MODEL_NAME or set(name) & set(REFUSED_IN_NAMES):
        raise ValueError(
            f"the registry takes no model named {name!r}: a name has no {' or '.join(REFUSED_IN_NAMES)}, begins with no "
            f"dot, is not blank and at most {MAX_MODEL_NAME} characters long"
        )
    return name


RegisteredName = Annotated[str, AfterValidator(check_registrable)]
"""Name of a registered model."""


class TrackingConfig(Config):
    """Where runs and models are recorded."""

    tracking_uri: str | None = None
    """MLflow's store: a server (`http://...`) or a database (`sqlite:///...`). By default the environment variable
    MLFLOW_TRACKING_URI, and without it the file `mlflow.db` in the run storage, if that is a local folder."""
    experiment: str = Field(default="tadscale", min_length=1, max_length=500)
    """Name of the MLflow experiment."""
    artifact_location: str | None = None
    """Where a new experiment keeps its artifacts: a folder or `s3://...`. By default a server decides for itself, and with
    a database it is `mlflow-artifacts` in the run storage."""
    registered_model: RegisteredName | None = "tadscale-detector"
    """Name under which a distill job registers its student; `null`: it does not."""
    registered_teacher: RegisteredName | None = None
    """Name under which a teacher job registers its teacher, which other jobs then name by `teacher.url`
    (`models:/NAME@champion`); by default it does not."""
    patience_s: NonNegativeFloat = 600.0
    """How long a job that is under way waits for MLflow to come back, where it cannot go on without it: between stages and
    at its end. Training itself never waits for it. `plan --answer` waits as long."""
    registered_start: RegisteredName | None = None
    """Name under which a pretrain job registers what it made, which `model.backbone.weights` then names likewise."""


def resolve_tracking_uri(config: TrackingConfig, storage: str) -> str:
    """The tracking URI that the settings, the environment and the run storage amount to.

    Raises:
        UserError: the storage is remote and nothing else names a tracking store.
    """
    uri = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri
    folder = _local_folder(storage)
    if folder is None:
        raise UserError(
            f"tracking.tracking_uri is not set, and a database cannot live in {storage}: set it, or the environment "
            "variable MLFLOW_TRACKING_URI, to your MLflow server (http://HOST:5000) or to sqlite:////absolute/path/mlflow.db"
        )
    return f"sqlite:///{folder / DATABASE_NAME}"


def default_store() -> str | None:
    """The database that a job with local storage under `runs/` leaves, if nothing else is named and it is there."""
    database = Path("runs") / DATABASE_NAME
    if os.environ.get("MLFLOW_TRACKING_URI") or not database.exists():
        return None
    return f"sqlite:///{database.absolute()}"


@contextmanager
def track_job(
    config: TrackingConfig,
    *,
    job: str,
    storage: str,
    settings: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """The parent run of a job, for as long as the job runs; its end says how the job ended.

    The status becomes FINISHED, FAILED (an exception, whose first words become a tag) or KILLED (`Preempted`, Ctrl-C, or an
    exit with a code other than 0).

    Args:
        config: where.
        job: the job's name.
        storage: URL under which the job keeps its results.
        settings: the job file as resolved; recorded as parameters and as `job.json`, secrets hidden.
        tags: provenance, digests, seed.
    """
    uri = resolve_tracking_uri(config, storage)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    client = PatientClient(make_client(uri), redact_text(uri), FIRST_PATIENCE_S)
    experiment = _experiment_id(client, config, uri, storage)
    identity = {JOB_TAG: job, STORAGE_TAG: redact_text(storage), SETTINGS_TAG: settings_digest(settings)}
    run = Run(uri, _resume_or_create(client, experiment, job, identity), config.patience_s)
    with _ending(run), beating(run):
        run.set_tags(tags or {})
        run.log_params(settings)
        run.log_dict(settings, "job.json")
        yield run


@contextmanager
def track_stage(parent: Run, stage: str, tags: Mapping[str, str] | None = None) -> Iterator[Run]:
    """The nested run of one stage of a job: the one that an earlier try left, finished or not; ends as `track_job` does.

    A job that goes on passes through its finished stages: one more run of each would be one for every preemption.
    """
    identity = {PARENT_TAG: parent.run_id, STAGE_TAG: stage}
    run_id = _resume_or_create(parent.client, parent.experiment_id, stage, identity, finished_too=True)
    run = Run(parent.tracking_uri, run_id, parent.patience_s)
    with _ending(run):
        run.set_tags(tags or {})
        yield run


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings without their secrets: a rotated password is not another experiment."""
    return hashlib.sha256(json.dumps(redact(settings), sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def _ending(run: Run) -> Iterator[None]:
    """Terminate the run honestly, whatever happens inside."""
    try:
        yield
        run.flush()
    except BaseException as error:
        run.client.patience_s = min(run.patience_s, LAST_PATIENCE_S)
        try:
            run.set_tags({ERROR_TAG: f"{type(error).__name__}: {error}"[:2000]})
            run.terminate(_status(error))
        except Exception as failure:  # the store is gone, too; the job's own error is the one to report
            log.warning("the end of run %s could not be recorded: %s", run.run_id, failure)
        raise
    run.terminate("FINISHED")


def _status(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "KILLED" if error.code else "FINISHED"
    return "FAILED" if isinstance(error, Exception) else "KILLED"


def _resume_or_create(
    client: Any, experiment: str, name: str, identity: Mapping[str, str], *, finished_too: bool = False
) -> str:
    """The id of the latest run with these tags if it did not finish, or whether it did or not, else of a new one."""
    wanted = " and ".join(f"tags.`{tag}` = '{_quoted(value)}'" for tag, value in identity.items())
    runs = client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time DESC"])
    if runs and (finished_too or runs[0].info.status != "FINISHED"):
        run_id = runs[0].info.run_id
        client.update_run(run_id, status="RUNNING")
        client.set_tag(run_id, ERROR_TAG, "")
        return run_id
    return client.create_run(experiment, tags=dict(identity), run_name=name).info.run_id


def _quoted(value: str) -> str:
    if "'" in value:
        raise UserError(f"{value!r} holds an apostrophe, which MLflow's search cannot express: choose another name")
    return value


def _experiment_id(client: Any, config: TrackingConfig, uri: str, storage: str) -> str:
    """The experiment's id; it is made if there is none."""
    experiment = find_experiment(client, config.experiment)
    if experiment is None:
        return _create_experiment(client, config.experiment, _artifact_location(config, uri, storage))
    return experiment.experiment_id


def find_experiment(client: Any, name: str) -> Any:
    """The experiment of a name, None if there is none; a deleted one is an error, and not silently brought back."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {name!r} has been deleted: restore it (mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}), or set tracking.experiment to another name"
        )
    return experiment


def _create_experiment(client: Any, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return client.create_experiment(name, artifact_location=location)
    except MlflowException:  # somebody else was quicker: jobs start at the same time
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return experiment.experiment_id


def _artifact_location(config: TrackingConfig, uri: str, storage: str) -> str | None:
    if config.artifact_location is None and uri.startswith(("http://", "https://")):
        return None  # the server's choice
    location = config.artifact_location or join(storage, ARTIFACTS_NAME)
    folder = _local_folder(location)
    return location if folder is None else folder.as_uri()


def _local_folder(url: str) -> Path | None:
    """The absolute path of a local folder, None for a remote one."""
    if url.startswith("file://"):
        return Path(url.removeprefix("file://")).absolute()
    return None if re.match(r"[A-Za-z][\w+.-]*://", url) else Path(url).absolute()
