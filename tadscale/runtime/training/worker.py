"""One training worker: what Ray Train runs on every rank."""

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import ray
import ray.train
import ray.train.collective
import torch
from pydantic import PositiveInt

from tadscale.config import Config
from tadscale.engine.batch import WindowBatch
from tadscale.engine.ema import Ema
from tadscale.engine.engine import Diverged, Engine, select
from tadscale.engine.loop import Callback, Expected, train
from tadscale.engine.pretrain import pretrain_step
from tadscale.engine.start import load_start
from tadscale.engine.state import CorruptState
from tadscale.engine.steps import Lesson, StepFunction, step_function
from tadscale.errors import UserError
from tadscale.models.backbones.base import Backbone
from tadscale.models.heads.objective import build_objective
from tadscale.network import save_network
from tadscale.runtime.cluster.capacity import DataPlane
from tadscale.runtime.pipeline.dataset import batch_columns
from tadscale.runtime.pipeline.embedded import embedded_batches
from tadscale.runtime.pipeline.packets import Columns, PacketLayout, windows_per_packet
from tadscale.runtime.stage.plan_spec import ReadSources, open_plan
from tadscale.runtime.stage.spec import Stage
from tadscale.runtime.stage.stopwatch import Stopwatch, TimeSplit
from tadscale.runtime.tracking.journal import Journal
from tadscale.runtime.tracking.provenance import code_version
from tadscale.runtime.training.appearance_teacher import AppearanceTeacher
from tadscale.runtime.training.batches import RankBatches
from tadscale.runtime.training.callbacks import Agreement, CheckpointEvery, LogLines, Preemption
from tadscale.runtime.training.checkpoint_writer import CheckpointWriter
from tadscale.runtime.training.checkpoints import CheckpointStore
from tadscale.runtime.training.deepspeed_engine import DeepSpeedEngine
from tadscale.runtime.training.failed import CODE_ERRORS, Final, where_raised
from tadscale.runtime.training.keep_epochs import KeepEpochs
from tadscale.runtime.training.monitor import Outcome
from tadscale.runtime.training.rank_report import GO_ON, OVER_BUDGET, PREEMPTED
from tadscale.runtime.training.resume import check_plan
from tadscale.runtime.training.stage_log import StageLog
from tadscale.runtime.training.target_scale import measure_target_scale

DATASET = "windows"

_terminated = threading.Event()


class WorkerConfig(Config):
    """What a worker needs to know; plain data, so that it travels as such."""

    stage: Stage
    """What it trains."""
    preset: dict[str, Any]
    """DeepSpeed's settings, read where the job was started."""
    monitor: str
    """Name of the monitor actor."""
    read: ReadSources
    """What the driver found in the manifests of the stage's sources."""
    plane: DataPlane
    """Who reads the data."""
    fetches: PositiveInt = 1
    """Threads that fetch, where the worker does."""


def install_sigterm_handler() -> None:
    """Make SIGTERM mean: finish the step, write a checkpoint, leave. Runs in the main thread of a worker's process."""
    signal.signal(signal.SIGTERM, lambda *_: _terminated.set())


def train_worker(config: dict[str, Any]) -> None:
    """Train a stage, as one rank. Called by Ray Train in every worker, anew after each restart; does nothing after an error
    that is final."""
    checked = WorkerConfig.model_validate(config)
    torch.set_num_threads(checked.stage.job.cluster.threads_per_worker)
    job, rank = checked.stage.job, ray.train.get_context().get_world_rank()
    monitor = ray.get_actor(checked.monitor)
    if ray.get(monitor.summary.remote()).final is not None:  # an attempt before this one; the driver says so
        return
    with Journal(job.run_url, f"{checked.stage.mode} rank {rank}"):
        try:
            _Rank(checked).run()
        except Exception as error:
            if final := final_error(error):
                ray.get(monitor.failed.remote(final))
            raise


def final_error(error: Exception) -> Final | None:
    """What another attempt would end of, too; None where a machine, the network or storage may be at fault.

    A divergence is final: from a checkpoint training goes on with the same weights and windows, on CPUs to the same digits.
    A state that one rank cannot read is not: rank 0 has found it whole.
    """
    if isinstance(error, CODE_ERRORS):
        return Final("code", where_raised(error))
    if isinstance(error, Diverged):
        return Final("diverged", str(error))
    if isinstance(error, UserError) and not isinstance(error, CorruptState):
        return Final("input", str(error))
    return None


@dataclass(frozen=True)
class _Resumed:
    """Where this attempt begins."""

    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    seconds: TimeSplit = field(default_factory=TimeSplit)


class _Rank:
    """A rank's parts, put together."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config, self._stage, job = config, config.stage, config.stage.job
        context = ray.train.get_context()
        self._rank, self._world_size = context.get_world_rank(), context.get_world_size()
        self._monitor = ray.get_actor(config.monitor)
        self._manifest, self._plan = open_plan(config.stage.plan, config.read)
        self._network = config.stage.network(self._manifest.classes)
        self._store = CheckpointStore(config.stage.checkpoints_url)
        self._log = StageLog(config.stage.log_url, config.stage.log_parts_url)
        share = len(self._plan.slots(0, self._rank, self._world_size))  # refuses a world size that does not divide
        torch.manual_seed(job.seed)
        model = self._network.build(for_training=True)
        if config.stage.start_url is not None:
            load_start(cast(Backbone, model.get_submodule("backbone")), config.stage.start_url)
        self._engine: Engine = DeepSpeedEngine(
            model,
            config.stage.optim,
            micro_batch=share,
            preset=config.preset,
            device=job.cluster.device,
        )
        self._ema = Ema(self._engine.model, config.stage.optim.ema_decay)
        self._resumed = self._resume()
        self._layout = PacketLayout(
            first_step=self._resumed.step,
            total_steps=self._plan.total_steps,
            global_batch=self._plan.global_batch,
            world_size=self._world_size,
            windows=windows_per_packet(share, config.stage.window),
        )

    def run(self) -> None:
        """Train what is left of the plan, and say how it ended."""
        if self._resumed.step == self._plan.total_steps:  # stopped between the last checkpoint and the weights
            self._end(GO_ON, self._plan.total_steps, self._resumed.losses, self._resumed.seconds)
            return
        stopwatch = Stopwatch(self._resumed.seconds)
        with self._open_data() as columns:
            self._train(RankBatches(columns, self._stage.job.cluster.device, self._monitor, stopwatch), stopwatch)

    def _train(self, batches: RankBatches, stopwatch: Stopwatch) -> None:
        stage = self._stage
        logs: list[LogLines] = []  # rank 0's
        agreement = Agreement(batches, lambda: _terminated.is_set() or any(line.stop_asked for line in logs))
        callbacks: list[Callback] = [agreement]
        writer: CheckpointWriter | None = None
        if self._rank == 0:
            logs.append(LogLines(self._log, agreement, self._monitor, self._resumed.step))
            kept = KeepEpochs(stage.kept_epochs, self._plan.steps_per_epoch, self._save_epoch, stopwatch)
            callbacks += [*logs, kept]
            meta = {"plan_digest": self._plan.digest, "world_size": self._world_size}
            writer = CheckpointWriter(self._store, logs[0], meta, stopwatch)
        callbacks.append(CheckpointEvery(stage.job.checkpoint_every_steps, agreement, stopwatch, writer))
        try:
            with writer or nullcontext():
                taken = train(
                    self._engine,
                    self._step_function(),
                    self._taught(batches),
                    self._expected(),
                    stage.optim,
                    first_step=self._resumed.step,
                    ema=self._ema,
                    callbacks=[*callbacks, Preemption(agreement)],
                )
        except Diverged:
            if self._rank == 0:
                self._store.note_divergence(self._resumed.step)
            raise
        self._end(agreement.stop, taken, agreement.losses, stopwatch.split())

    def _step_function(self) -> StepFunction:
        job = self._stage.job
        if self._stage.mode == "pretrain":
            assert job.pretrain is not None
            scale = measure_target_scale(self._stage, self._network, self._config.read)
            return partial(pretrain_step, job.pretrain, scale)
        objective = build_objective(self._network.model.head, len(self._network.classes))
        lesson = Lesson(
            objective=objective,
            student=self._stage.student,
            global_batch=self._plan.global_batch,
            labelled_share=self._plan.labelled_share,
            total_steps=self._plan.total_steps,
        )
        return step_function(self._stage.mode, lesson)

    def _open_data(self) -> AbstractContextManager[Iterator[Columns]]:
        """This rank's batches, from Ray Data or from its own threads."""
        if self._rank == 0:  # before it asks for its shard: the pipeline is built for this layout
            ray.get(self._monitor.started.remote(self._layout))
        config = self._config
        if config.plane == "ray":
            return nullcontext(batch_columns(ray.train.get_dataset_shard(DATASET), self._layout))
        return embedded_batches(self._stage, self._layout, self._rank, read=config.read, threads=config.fetches)

    def _taught(self, batches: RankBatches) -> Iterator[WindowBatch]:
        """The batches with what the appearance teacher makes of them, where there is one."""
        url = self._stage.appearance_url
        return batches if url is None else map(AppearanceTeacher(url, self._stage.job.cluster.device), batches)

    def _expected(self) -> Expected:
        share = self._plan.global_batch // self._world_size

        def positions(step: int) -> torch.Tensor:
            first = step * self._plan.global_batch + self._rank * share
            return torch.arange(first, first + share)

        return Expected(
            total_steps=self._plan.total_steps,
            steps_per_epoch=self._plan.steps_per_epoch,
            global_batch=self._plan.global_batch,
            positions=positions,
            videos=self._videos,
        )

    def _videos(self, step: int) -> list[str]:
        """Keys of the videos that a step's global batch is cut from."""
        windows = [window for window in self._plan.batch(step).tolist() if window >= 0]
        return sorted({self._manifest.row(int(self._plan.windows.video[window])).key for window in windows})

    def _resume(self) -> _Resumed:
        """Load the newest good checkpoint. Rank 0 decides which, so that all load the same."""
        latest = self._store.load_latest() if self._rank == 0 else None
        step = ray.train.collective.broadcast_from_rank_zero(latest[0].step if latest else None)
        if step is None:
            return _Resumed()
        state, meta = latest or self._store.load(step)
        check_plan(meta, self._plan, self._stage)
        self._engine.load_state(state)
        self._ema.load(select(state.tensors, "ema/"))
        return _Resumed(step, meta["losses"], TimeSplit(**meta["seconds"]))

    def _end(self, stop: int, taken: int, losses: dict[str, float], seconds: TimeSplit) -> None:
        if self._rank != 0:
            return
        if stop == OVER_BUDGET:
            reason = "over budget"
        elif taken < self._plan.total_steps and stop == PREEMPTED:
            reason = "preempted"
        else:
            reason = "finished"
            self._log.merge()
            self._save(self._stage.weights_url)
        ray.get(self._monitor.finished.remote(Outcome(reason, taken, losses, seconds)))  # type: ignore[arg-type]

    def _save_epoch(self, epoch: int) -> None:
        self._save(self._stage.epoch_url(epoch))

    def _save(self, url: str) -> None:
        """The averaged weights and their description."""
        digests = {"plan_digest": self._plan.digest, "manifest_digest": self._plan.manifest_digest}
        described = self._network.model_copy(update=digests | {"code_version": code_version()})
        save_network(url, described, self._ema.tensors)
