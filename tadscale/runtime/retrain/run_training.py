"""The training that a tick decided on, from a job to its record; killed and called again, it goes on."""

import time

from rich.console import Console

from tadscale.data.manifest import read_manifest
from tadscale.retrain.profile import DataProfile
from tadscale.retrain.record import Outcome, RetrainRecord
from tadscale.runtime.cluster.stopping import StopToken
from tadscale.runtime.jobs.run_job import JobSummary, run_job
from tadscale.runtime.models.registry import GATE_PREFIX, ModelVersion
from tadscale.runtime.models.succession import CHAMPION
from tadscale.runtime.retrain.derive import derived_job
from tadscale.runtime.retrain.old_and_new import score_by_age
from tadscale.runtime.retrain.records import record_tags, write_record
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.tracking.run import Run

REST = "starts, evaluation, registration, gate"


def run_training(
    job: JobConfig, record: RetrainRecord, before: DataProfile | None, console: Console, stop: StopToken
) -> RetrainRecord:
    """Distil, evaluate, hold against the champion; returns the record as it stands at the end.

    Args:
        job: the retraining's, as its file has it.
        record: of the tick that decided it.
        before: what the champion was trained on.
        console: where progress goes.
        stop: tells it to stop.

    Raises:
        What `run_job` raises; the record then says that it is under way, and the next tick goes on.
    """
    ours = derived_job(job, record.derivation)
    write_record(job.storage, record)
    begun_s = time.monotonic()
    summary = run_job(ours, console, stop, tags=record_tags(record))
    assert summary.model is not None  # the job registers its student
    seconds = record.seconds | _seconds(summary, time.monotonic() - begun_s)
    outcome = _outcome(ours, summary.model, record.derivation.champion, before)
    finished = record.model_copy(update={"state": "finished", "outcome": outcome, "seconds": seconds})
    write_record(job.storage, finished, Run(summary.tracking_uri, summary.run_id, job.tracking.patience_s))
    return finished


def _outcome(job: JobConfig, model: ModelVersion, champion: int | None, before: DataProfile | None) -> Outcome:
    """What came of it. Whom the gate held it against, its tag says: a gate that was void is held anew, against another."""
    here = with_absolute_paths(job)
    against = int(model.tags.get(f"{GATE_PREFIX}against", champion or model.version))
    reigned = None if against == model.version else against
    tests = score_by_age(here, read_manifest(here.data.url), before, reigned)
    return Outcome(version=model.version, is_champion=CHAMPION in model.aliases, against=reigned, tests=tests)


def _seconds(summary: JobSummary, took_s: float) -> dict[str, float]:
    """Each stage's own time, of all tries together, and the rest of this try."""
    stages = {mode: stage.seconds.total_s for mode, stage in summary.stages.items()}
    return {mode: round(spent, 1) for mode, spent in stages.items()} | {
        REST: round(max(0.0, took_s - sum(stages.values())), 1)
    }
