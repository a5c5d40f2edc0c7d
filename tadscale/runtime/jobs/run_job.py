"""A job from its first stage to its last: data, training, evaluation, registration, all on record."""

import logging
import os
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

from rich.console import Console

from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.source import open_sources
from tadscale.data.storage import read_bytes
from tadscale.engine.loop import StepRecord
from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.network import Mode
from tadscale.report.gate import gate_lines
from tadscale.report.preview import previews
from tadscale.report.progress import StageProgress
from tadscale.report.summary import LAST, summary_table
from tadscale.runtime.cluster.capacity import connect
from tadscale.runtime.cluster.stopping import StopToken
from tadscale.runtime.evaluation.choose_epochs import choose_epochs, record_choices
from tadscale.runtime.evaluation.score_models import evaluate_models
from tadscale.runtime.jobs.blind_start import warn_of_blind_start
from tadscale.runtime.jobs.gate.run_gate import run_gate
from tadscale.runtime.jobs.last_words import hints
from tadscale.runtime.jobs.lease import leased
from tadscale.runtime.jobs.named_models import with_named_models_at_hand
from tadscale.runtime.jobs.preflight.checks import preflight
from tadscale.runtime.jobs.sprites import ensure_sprites
from tadscale.runtime.models.data_profile import write_profile
from tadscale.runtime.models.publish import publish
from tadscale.runtime.models.registry import ModelVersion, Registry
from tadscale.runtime.stage.choice import Choice, choice_line
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.stage.spec import Stage, planned_stages, with_contents
from tadscale.runtime.tracking.curves import RECORDED_TAG, StageCurves
from tadscale.runtime.tracking.fetching import fetch_metrics
from tadscale.runtime.tracking.journal import DRIVER, Journal
from tadscale.runtime.tracking.prometheus import StageMetrics, gauge
from tadscale.runtime.tracking.provenance import provenance_tags
from tadscale.runtime.tracking.run import Run
from tadscale.runtime.tracking.teacher_cache import teacher_cache_metrics
from tadscale.runtime.tracking.track import resolve_tracking_uri, track_job, track_stage
from tadscale.runtime.training.launch import train_stage
from tadscale.runtime.training.resume import finished_stages

PREVIEWS = 2  # clips in a run's artifacts

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JobSummary:
    """What a job leaves behind."""

    stages: dict[str, StageResult]
    scores: dict[str, MeanAveragePrecision]
    choices: dict[str, Choice]
    run_id: str
    tracking_uri: str
    model: ModelVersion | None


def run_job(job: JobConfig, console: Console, stop: StopToken, tags: Mapping[str, str] | None = None) -> JobSummary:
    """Run a job to its end; what an earlier, interrupted run of it finished is not done again.

    Nothing is trained, recorded or drawn before all that can be known of the job has been checked.

    Args:
        job: as its file has it.
        console: where progress and the last words go.
        stop: tells the job to stop.
        tags: more of them for its record.

    Raises:
        PreflightFailed: a setting does not fit the data, the cluster or the services; names all faults.
        UserError: it does not fit what an earlier run left in the storage.
        LeaseHeld: the job runs already.
        QuarantineExceeded: more videos are bad than the budget allows.
        Preempted: the job was told to stop.
        StorageError: the storage cannot be reached.
        TrackingAway: MLflow cannot be reached.
        ChampionChanged: the gate found the version to be champion, and another has become it meanwhile.
    """
    with console.status(f"{job.name}: checking settings, data and services"):
        doubts = preflight(job)
    settings = job.model_dump(mode="json")
    job = with_absolute_paths(job)  # once, here: its processes run in other folders
    tags = {**provenance_tags(), "seed": str(job.seed), "kind": job.kind, **(tags or {})}
    with leased(job.run_url, stop), Journal(job.run_url, DRIVER):
        with track_job(job.tracking, job=job.name, storage=job.storage, settings=settings, tags=tags) as run:
            for doubt in doubts:
                log.warning("%s", doubt)
            log.info("%s begins: process %d on %s, run %s", job.name, os.getpid(), socket.gethostname(), run.run_id)
            summary = _run(job, run, console, stop)
        _conclude(job, summary, console)
    return summary


def _run(job: JobConfig, run: Run, console: Console, stop: StopToken) -> JobSummary:
    """All of a job, once it is known to be the only one of its kind."""
    if job.kind != "evaluate":  # which asks for a cluster where it needs one
        with console.status(f"{job.name}: connecting to the cluster, or starting one here"):
            connect(job.cluster)
    manifest = _open_data(job, console)
    run.set_tags({"manifest_digest": manifest.digest, "motion": job.motion.name})
    job = with_named_models_at_hand(job)
    if job.kind == "evaluate":
        stages = finished_stages(job.run_url)
        if job.teacher.url is not None:
            stages.pop("teacher", None)  # who is named stands in its place, as where the job trains
    else:
        _record_previews(job, run)
        stages = _train_stages(job, run, console, stop)
    choices = choose_epochs(job, manifest, stages, run)
    scores = {} if job.kind == "pretrain" else evaluate_models(job, manifest, stages, choices, run)
    record_choices(job, choices, scores, run)
    return JobSummary(
        stages=stages,
        scores=scores,
        choices=choices,
        run_id=run.run_id,
        tracking_uri=resolve_tracking_uri(job.tracking, job.storage),
        model=_decide(job, _publish(job, choices, scores, run), run, console),
    )


def _open_data(job: JobConfig, console: Console) -> Manifest:
    """The manifest; the built-in data are drawn if the job asks for them and they are not there."""
    if job.data.sprites is None:
        return read_manifest(job.data.url)
    with console.status(f"sprites: looking at {job.data.url}"):
        manifest = ensure_sprites(job.data.sprites, job.data.url)
    _say(console, "data", f"{len(manifest)} videos, {len(manifest.classes)} classes at {job.data.url}")
    return manifest


def _record_previews(job: JobConfig, run: Run) -> None:
    """Clips of what the teacher sees, so that a wrong frame rate, size or motion is seen before it is paid for."""
    training = open_sources(job.data.training_sources)
    for preview in previews(training, job.data.window, job.motion, PREVIEWS):
        name = preview.key.replace("/", "_")
        run.log_bytes(preview.clip_mp4, f"preview/{name}.mp4")
        run.log_bytes(preview.still_png, f"preview/{name}.png")


def _publish(
    job: JobConfig, choices: Mapping[str, Choice], scores: Mapping[str, MeanAveragePrecision], run: Run
) -> ModelVersion | None:
    """Register what the job was for: a student, or a teacher or a start that is to have a name."""
    wanted: dict[str, tuple[Mode, str | None]] = {
        "distill": (job.student.mode, job.tracking.registered_model),
        "teacher": ("teacher", job.tracking.registered_teacher),
        "pretrain": ("pretrain", job.tracking.registered_start),
    }
    mode, name = wanted.get(job.kind, ("teacher", None))
    if name is None:
        return None
    write_profile(job, run, mode)  # before the version is: there is none that does not say what it was trained on
    return publish(job, choices[mode], scores, run, mode=mode, name=name)


def _decide(job: JobConfig, model: ModelVersion | None, run: Run, console: Console) -> ModelVersion | None:
    """Hold what was registered against the champion, if the job asks for that; returns it as it stands afterwards."""
    if job.gate is None or model is None:
        return model
    outcome = run_gate(job, job.gate, Registry(run.tracking_uri, run.patience_s), model.name, model.version)
    promoted = outcome.verdict is None or outcome.verdict.promote
    gauge("tadscale_gate_promoted", run=job.name, model=model.name).set(int(promoted))
    for line in gate_lines(outcome.verdict, outcome.challenger.version, outcome.against):
        _say(console, "gate", line)
    return outcome.challenger


def _train_stages(job: JobConfig, run: Run, console: Console, stop: StopToken) -> dict[str, StageResult]:
    """Train what the job's kind asks for, in order: the student needs its teachers."""
    stages: dict[str, StageResult] = {}
    for stage in planned_stages(job):
        stages[stage.mode] = _train(with_contents(stage), run, console, stop)
    return stages


def _train(stage: Stage, run: Run, console: Console, stop: StopToken) -> StageResult:
    """One stage, as a nested run, with its progress on the console."""
    mode = stage.mode
    tags = {"mode": mode} | ({"backbone_delay": str(stage.student.distill.backbone_delay)} if stage.distils else {})
    with track_stage(run, mode, tags) as nested, StageProgress(mode, console) as progress:
        curves, metrics = StageCurves(nested), StageMetrics(stage.job.name, mode)

        def on_record(record: StepRecord) -> None:
            progress.show(record)
            curves.add(record)
            metrics.add(record)

        with metrics.training():
            result = train_stage(stage, on_record, stop)
        if not curves.are_recorded(result.network_sha256):
            curves.complete(result.log_url)
            _record_stage(nested, result)
    if mode == "pretrain":
        warn_of_blind_start(stage, result)
    return result


def _record_stage(run: Run, result: StageResult) -> None:
    """What the record of a stage holds besides its curves; last, that it has all."""
    seconds = result.seconds._asdict()
    run.log_metrics({f"time/{name}": value for name, value in seconds.items()} | {"quarantined": result.quarantined})
    run.set_tags({name: getattr(result, name) for name in ("plan_digest", "manifest_digest", "data_plane")})
    run.log_bytes(read_bytes(result.quarantine_url), "quarantine.jsonl")
    log = read_bytes(result.log_url)
    run.log_metrics(fetch_metrics(BytesIO(log)) | teacher_cache_metrics(BytesIO(log)))
    run.log_bytes(log, "log.jsonl")
    run.flush()
    run.set_tags({RECORDED_TAG: result.network_sha256})


def _conclude(job: JobConfig, summary: JobSummary, console: Console) -> None:
    """The last words: the table, where the model is, how to look further."""
    if job.kind == "pretrain":
        weights_url = summary.stages["pretrain"].weights_url
        setting = shlex.quote(f"model.backbone.weights={weights_url}")
        _say(console, "use", f"--set {setting}")
        return
    title = f"{job.name}: mAP on {job.data.test_subset}, %"
    console.print(summary_table(_ordered(summary.scores), title))
    for name, score in _ordered(summary.scores).items():
        log.info("%s: average mAP %.1f", name, 100 * score.average)
    for line in filter(None, (choice_line(mode, choice) for mode, choice in summary.choices.items())):
        _say(console, "epoch", line)
    if version := summary.model:
        aliases = ", ".join(version.aliases) or "no alias"
        _say(console, "model", f"{version.name} version {version.version} ({aliases})")
    for hint in hints(summary.tracking_uri, summary.model, watches=_watches(job, summary)):
        _say(console, hint.what, hint.command)


def _watches(job: JobConfig, summary: JobSummary) -> bool:
    """Whether what was registered looks at videos: on features it does where it carries what makes them."""
    if job.data.window.features is None or summary.model is None:
        return True
    registered = Registry(summary.tracking_uri).describe(summary.model.name, summary.model.version)
    return registered.extractor is not None


def _say(console: Console, what: str, words: str) -> None:
    """A line for who looks on, and for the job's journal."""
    line = f"{what:<10} {words}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
    log.info("%s", line)


def _ordered(scores: Mapping[str, MeanAveragePrecision]) -> dict[str, MeanAveragePrecision]:
    order = ("two_stream", "teacher", "decomposed", "conventional", "baseline")
    names = [*order, *(f"{name}{LAST}" for name in order)]
    return {name: scores[name] for name in names if name in scores}
