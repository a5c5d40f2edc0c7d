"""One tick: what is new since the champion, whether that is enough, and then the training.

Nothing heavy is imported before there is something to train: a tick that finds nothing ends in seconds, without Ray.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.source import open_sources
from tadscale.report.retrain import decision_line
from tadscale.retrain.decision import Decision, decide
from tadscale.retrain.drift import shifts_between
from tadscale.retrain.profile import DataProfile, change_since, sampled
from tadscale.retrain.record import Derivation, RetrainRecord
from tadscale.runtime.cluster.capacity import connect
from tadscale.runtime.cluster.stopping import StopToken
from tadscale.runtime.jobs.sprites import drawn_already, ensure_sprites
from tadscale.runtime.models.data_profile import look_of, read_profile
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.retrain.champion_scores import confidence_shift
from tadscale.runtime.retrain.derive import Derived
from tadscale.runtime.retrain.incumbent import Incumbent, find_incumbent
from tadscale.runtime.retrain.records import RECORD_NAME, read_record, write_record
from tadscale.runtime.retrain.run_name import run_name
from tadscale.runtime.retrain.spec import RetrainConfig
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.tracking.track import resolve_tracking_uri, settings_digest


def run_retrain(config: RetrainConfig, job: JobConfig, console: Console, stop: StopToken) -> RetrainRecord:
    """Train if the data ask for it, and leave a record either way. The same tick again, or one that was killed anywhere,
    ends in the same result.

    Args:
        config: of the retraining.
        job: that it names, see `load_retrain`.
        console: where the decision and the run's progress go.
        stop: tells it to stop.

    Raises:
        UserError: the classes are not the champion's, the champion was deleted, or what `run_job` raises.
        Preempted: it was told to stop.
        StorageError: the storage cannot be reached.
        TrackingAway: MLflow cannot be reached.
    """
    tick = _Tick(config, job, console, stop)
    incumbent = tick.incumbent()
    training, test = tick.videos()
    for begun in tick.begun(incumbent):
        if tick.is_of_now(begun, training):
            return tick.go_on(begun)
        write_record(job.storage, begun.model_copy(update={"state": "abandoned"}))
    return tick.decide(incumbent, training, test)


def would_train(config: RetrainConfig, job: JobConfig, patience_s: float = 0.0) -> Decision:
    """What a tick would decide now. Reads registry, manifest and perhaps some new videos; trains, draws and writes nothing.

    Args:
        config: of the retraining.
        job: that it names, see `load_retrain`.
        patience_s: how long MLflow may be away.

    Raises:
        StorageError: the storage cannot be reached.
        TrackingAway: MLflow cannot be reached.
    """
    tick = _Tick(config, job, Console(quiet=True), StopToken(), patience_s)
    if tick.has_to_draw():
        return Decision(retrain=True, reasons=("the built-in videos are not drawn yet",))
    incumbent = tick.incumbent()
    training, test = tick.videos()
    for begun in tick.begun(incumbent):
        if tick.is_of_now(begun, training):
            return Decision(retrain=True, reasons=(f"{begun.derivation.run} was killed before its end",))
    return tick.decision(incumbent, training, tick.run_name(incumbent, training, test))


class _Tick:
    """What one tick knows of itself."""

    def __init__(
        self, config: RetrainConfig, job: JobConfig, console: Console, stop: StopToken, patience_s: float = 0.0
    ) -> None:
        self.config, self.given, self.console, self.stop = config, job, console, stop
        self.job, self.model = with_absolute_paths(job), str(job.tracking.registered_model)
        self.registry = Registry(resolve_tracking_uri(job.tracking, job.storage), patience_s)
        teacher = config.teacher.model_dump(mode="json")
        settings = job.model_dump(mode="json", exclude={"cluster", "tracking", "name", "storage"})
        self.settings = settings_digest({"job": settings, "warm_start": config.warm_start, "teacher": teacher})
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long the block takes."""
        begun_s = time.monotonic()
        yield
        self.seconds[what] = round(time.monotonic() - begun_s, 2)

    def incumbent(self) -> Incumbent | None:
        """Who reigns, and who is to."""
        with self.timed("champion"):
            return find_incumbent(self.registry, self.model)

    def has_to_draw(self) -> bool:
        """Whether the built-in videos are not there yet."""
        sprites = self.job.data.sprites
        return sprites is not None and not drawn_already(sprites, self.job.data.url)

    def videos(self) -> tuple[Manifest, Manifest]:
        """What is trained on and what is tested on; built-in videos are drawn if they are not there yet."""
        data = self.job.data
        with self.timed("manifest"):
            if data.sprites is not None and self.has_to_draw():
                from tadscale.runtime.jobs.preflight.checks import preflight

                preflight(self.given)
                connect(self.job.cluster)
                ensure_sprites(data.sprites, data.url)
            return open_sources(data.training_sources), read_manifest(data.url).subset(data.test_subset)

    def begun(self, incumbent: Incumbent | None) -> Iterator[RetrainRecord]:
        """Trainings that were killed after they had registered their version."""
        for version in (incumbent.challenger, incumbent.champion) if incumbent else ():
            record = read_record(self.job.storage, version.tags["job"]) if version and "job" in version.tags else None
            if record is not None and record.state == "training":
                yield record

    def is_of_now(self, record: RetrainRecord, training: Manifest) -> bool:
        """Whether a training that was begun is of these settings and data, and can be ended."""
        return (record.settings_digest, record.training_digest) == (self.settings, training.digest)

    def go_on(self, record: RetrainRecord) -> RetrainRecord:
        """End a training that was killed after it had registered its version."""
        self._say(f"going on with {record.derivation.run}, which was killed before its end")
        champion = record.derivation.champion
        before = None if champion is None else read_profile(self.registry, self.registry.version(self.model, champion))
        return self._train(record, before)

    def decide(self, incumbent: Incumbent | None, training: Manifest, test: Manifest) -> RetrainRecord:
        """Look at the data, decide, and act."""
        name = self.run_name(incumbent, training, test)
        with self.timed("drift"):
            decision = self.decision(incumbent, training, name)
        champion = incumbent.champion.version if incumbent else None
        record = RetrainRecord(
            state="training" if decision.retrain else "idle",
            derivation=Derivation(run=name, champion=champion),
            settings_digest=self.settings,
            training_digest=training.digest,
            decision=decision,
            seconds=self.seconds,
        )
        self._say(decision_line(decision))
        if decision.retrain:
            before = incumbent.profile if incumbent else None
            return self._train(self._derived(record, incumbent, training), before)
        if read_record(self.job.storage, name) is None:  # of an idle tick there may be one; a training's says more
            write_record(self.job.storage, record)
        return record

    def run_name(self, incumbent: Incumbent | None, training: Manifest, test: Manifest) -> str:
        """What a training of these videos is called now."""
        data = hashlib.sha256(f"{training.digest} {test.digest}".encode()).hexdigest()
        return run_name(self.config.name, self.settings, data, incumbent.digest if incumbent else "")

    def decision(self, incumbent: Incumbent | None, training: Manifest, name: str) -> Decision:
        """Whether to train, and why: the data ask for it, and the run of that name was not held against this champion."""
        asked = self._asked(incumbent, training)
        ended = read_record(self.job.storage, name) if incumbent and asked.retrain else None
        if ended is None or ended.outcome is None:
            return asked
        again = (
            f"{name} was trained already, as version {ended.outcome.version}, and held against version "
            f"{ended.outcome.against or ended.derivation.champion}; delete its {RECORD_NAME} to have that done again"
        )
        return asked.model_copy(update={"retrain": False, "reasons": (again, *asked.reasons)})

    def _asked(self, incumbent: Incumbent | None, training: Manifest) -> Decision:
        """Whether the data ask for a training, and why."""
        if incumbent is None:
            return Decision(retrain=True, reasons=("there is no champion yet",), new_videos=len(training))
        latest, when = incumbent.latest, self.config.when
        if latest is None:
            return _without_profile(incumbent, training)
        change = change_since(latest, training.facts())
        if len(change.new) < when.drift.min_videos:
            return decide(change, (), when)
        shifts = shifts_between(latest.sample, sampled(change.new, look_of(self.job)), when.drift)
        decision = decide(change, shifts, when)
        if decision.retrain or incumbent.profile is None or self.job.data.window.features is not None:
            return decision
        scores = confidence_shift(self.registry, incumbent.champion, incumbent.profile, change.new, when.drift)
        return decide(change, [*shifts, scores], when) if scores else decision

    def _derived(self, record: RetrainRecord, incumbent: Incumbent | None, training: Manifest) -> RetrainRecord:
        """What the run takes over from the champion: as an earlier try had it, if there was one."""
        run = record.derivation.run
        begun = read_record(self.job.storage, run)
        if begun is not None and begun.state != "idle":
            return record.model_copy(update={"derivation": begun.derivation})
        derived = Derived(
            config=self.config, job=self.job, registry=self.registry, training=training, look=look_of(self.job)
        )
        with self.timed("derivation"):
            made = derived.derivation(run, incumbent)
        self._say(f"{run}: backbone {made.start_says}; teacher {made.teacher_says}")
        return record.model_copy(update={"derivation": made, "seconds": dict(self.seconds)})

    def _train(self, record: RetrainRecord, before: DataProfile | None) -> RetrainRecord:
        from tadscale.runtime.retrain.run_training import run_training

        ended = run_training(self.given, record, before, self.console, self.stop)
        self._say(f"record in {self.job.storage}/{record.derivation.run}/retrain.md")
        return ended

    def _say(self, text: str) -> None:
        self.console.print(f"retrain    {text}", highlight=False, markup=False, soft_wrap=True)


def _without_profile(incumbent: Incumbent, training: Manifest) -> Decision:
    """Of a champion that is older than profiles its manifest's digest alone tells."""
    version = incumbent.champion
    if version.tags.get("manifest_digest") == training.digest:
        return Decision(retrain=False, reasons=("the training data are the champion's",), known_videos=len(training))
    why = f"version {version.version} does not say which videos it was trained on, and the data are others than its own"
    return Decision(retrain=True, reasons=(why,), new_videos=len(training))
