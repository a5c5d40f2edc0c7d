"""What runs, how far it is, and what it waits for: read off MLflow, where every step arrives within seconds."""

import time
from dataclasses import dataclass
from typing import Any

from tadscale.data.storage import join
from tadscale.errors import UserError
from tadscale.runtime.tracking.curves import DATA_WAIT, ETA, LOSS, RATE, TOTAL
from tadscale.runtime.tracking.heartbeat import HEARD_TAG
from tadscale.runtime.tracking.run import PARENT_TAG
from tadscale.runtime.tracking.track import CELL_TAG, ERROR_TAG, JOB_TAG, STAGE_TAG, STORAGE_TAG

SILENT_S = 120.0
"""A run that says RUNNING and has sent nothing for so long may be dead: it beats every half minute, and metrics arrive
every few seconds."""
MAX_RESULTS = 1000  # of one search


@dataclass(frozen=True, kw_only=True)
class StageSeen:
    """One stage of a job, as its run has it."""

    name: str
    status: str
    """MLflow's: RUNNING, FINISHED, FAILED, KILLED."""
    step: int
    """Steps taken."""
    total_steps: int
    """0 where the run does not say."""
    loss: float | None
    windows_per_s: float | None
    data_wait_share: float | None
    """Share of the time that training waits for data."""
    eta_s: float | None
    silent_s: float
    """Since its last sign of life."""

    @property
    def is_stuck(self) -> bool:
        """Whether it trains, and no step has come for longer than one takes to come: its driver may live on."""
        return self.status == "RUNNING" and self.silent_s > SILENT_S


@dataclass(frozen=True, kw_only=True)
class JobSeen:
    """One job."""

    name: str
    experiment: str
    experiment_id: str
    run_id: str
    status: str
    started_unix_s: float
    heard_unix_s: float
    """Its last sign of life, apart from its stages'."""
    ended_unix_s: float | None
    error: str
    """First words of what ended it; empty where nothing did."""
    stages: tuple[StageSeen, ...]
    """In the order in which they began."""
    scores: dict[str, float]
    """Average mAP of every detector, a fraction."""
    cell: str
    """Of a grid: which cell it is at, or was at last, of how many. Empty where it is none."""

    @property
    def silent_s(self) -> float:
        """Since its last sign of life."""
        silent_s = time.time() - self.heard_unix_s
        return min(silent_s, self.current.silent_s) if self.current else silent_s

    @property
    def current(self) -> StageSeen | None:
        """The stage that it is at, or was at last."""
        return self.stages[-1] if self.stages else None

    @property
    def state(self) -> str:
        """`running`, `silent` (says so, and has not been heard of), `finished`, `failed`, `stopped`."""
        words = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped"}
        if self.status in words:
            return words[self.status]
        return "silent" if self.silent_s > SILENT_S else "running"


def jobs_seen(client: Any, *, last: int, name: str | None = None) -> list[JobSeen]:
    """The latest jobs of a store, the newest first.

    Args:
        client: an `MlflowClient`.
        last: how many at most.
        name: only those of this name.

    Raises:
        UserError: no job can have that name.
    """
    return [_job(client, run, experiment) for run, experiment in _latest(client, last, name)]


def cells_seen(client: Any, grid: JobSeen) -> list[JobSeen]:
    """The jobs of a grid, the newest first, those of its earlier runs among them; none of a job that is none."""
    storage = client.get_run(grid.run_id).data.tags[STORAGE_TAG]
    wanted = f"tags.`{JOB_TAG}` = '{grid.name}' and tags.`{STORAGE_TAG}` = '{storage}'"
    grids = client.search_runs([grid.experiment_id], wanted, max_results=MAX_RESULTS)
    nested = [run for one in grids for run in _nested(client, one.info.experiment_id, one.info.run_id)]
    cells = sorted((run for run in nested if JOB_TAG in run.data.tags), key=lambda run: -run.info.start_time)
    return [_job(client, run, grid.experiment) for run in cells]


def run_url_of_latest(client: Any, name: str | None = None) -> str | None:
    """The folder of the latest job, or of the latest of this name; None where there is none. Raises as `jobs_seen`."""
    for run, _ in _latest(client, 1, name):
        return join(run.data.tags[STORAGE_TAG], run.data.tags[JOB_TAG])
    return None


def _latest(client: Any, last: int, name: str | None) -> list[tuple[Any, str]]:
    """Runs of jobs, the newest first, each with its experiment's name."""
    if name and "'" in name:
        raise UserError(f"no job is called {name!r}: a name has no apostrophe")
    experiments = {one.experiment_id: one.name for one in client.search_experiments()}
    wanted = f"tags.`{JOB_TAG}` = '{name}'" if name else f"tags.`{JOB_TAG}` LIKE '%'"
    order = ["attributes.start_time DESC"]
    runs = client.search_runs(list(experiments), wanted, max_results=last, order_by=order) if experiments else []
    return [(run, experiments[run.info.experiment_id]) for run in runs]


def _job(client: Any, run: Any, experiment: str) -> JobSeen:
    info, data = run.info, run.data
    children = _nested(client, info.experiment_id, info.run_id)
    suffix = "/average_mAP"
    return JobSeen(
        name=data.tags.get(JOB_TAG, info.run_name),
        experiment=experiment,
        experiment_id=info.experiment_id,
        run_id=info.run_id,
        status=info.status,
        started_unix_s=info.start_time / 1e3,
        heard_unix_s=max(info.start_time / 1e3, float(data.tags.get(HEARD_TAG, 0))),
        ended_unix_s=info.end_time / 1e3 if info.end_time else None,
        error=data.tags.get(ERROR_TAG, ""),
        stages=tuple(_stage(client, child) for child in children if STAGE_TAG in child.data.tags),
        scores={key.removesuffix(suffix): value for key, value in data.metrics.items() if key.endswith(suffix)},
        cell=data.tags.get(CELL_TAG, ""),
    )


def _nested(client: Any, experiment_id: str, run_id: str) -> Any:
    """The runs within a run, in the order in which they began."""
    wanted, order = f"tags.`{PARENT_TAG}` = '{run_id}'", ["attributes.start_time ASC"]
    return client.search_runs([experiment_id], wanted, max_results=MAX_RESULTS, order_by=order)


def _stage(client: Any, run: Any) -> StageSeen:
    metrics = run.data.metrics
    total = int(metrics.get(TOTAL, 0))
    ended = total > 0 and run.info.status == "FINISHED"  # its history, which may be long, has nothing to add
    points = client.get_metric_history(run.info.run_id, LOSS) if LOSS in metrics and not ended else []
    heard_ms = max([point.timestamp for point in points] + [run.info.start_time])
    return StageSeen(
        name=run.data.tags[STAGE_TAG],
        status=run.info.status,
        step=total if ended else max((point.step for point in points), default=-1) + 1,
        total_steps=total,
        loss=metrics.get(LOSS),
        windows_per_s=metrics.get(RATE),
        data_wait_share=metrics.get(DATA_WAIT),
        eta_s=metrics.get(ETA),
        silent_s=time.time() - heard_ms / 1e3,
    )
