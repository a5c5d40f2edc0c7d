"""One training worker: what Ray Train runs on every rank."""

import signal
import threading
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.train
import ray.train.collective
import torch

from tadscale.config import Config
from tadscale.engine.ema import Ema
from tadscale.engine.engine import Engine, select
from tadscale.engine.loop import Expected, train
from tadscale.engine.steps import STEPS
from tadscale.network import NetworkSpec, build_network, save_network
from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.runtime.pipeline.dataset import batches
from tadscale.runtime.pipeline.packets import PacketLayout, windows_per_packet
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import StageSpec
from tadscale.runtime.stage.stopwatch import Stopwatch, TimeSplit
from tadscale.runtime.training.batches import Received
from tadscale.runtime.training.callbacks import (
    GO_ON,
    OVER_BUDGET,
    PREEMPTED,
    Agreement,
    CheckpointEvery,
    LogLines,
    Preemption,
)
from tadscale.runtime.training.checkpoints import CheckpointStore
from tadscale.runtime.training.deepspeed_engine import DeepSpeedEngine
from tadscale.runtime.training.monitor import Outcome
from tadscale.runtime.training.resume import check_plan

DATASET = "windows"

_terminated = threading.Event()


class WorkerConfig(Config):
    """What a worker is told; plain data, so that it travels as such."""

    spec: StageSpec
    cluster: ClusterConfig
    preset: dict[str, Any]
    monitor: str
    """Name of the monitor actor."""


def install_sigterm_handler() -> None:
    """Make SIGTERM mean: finish the step, write a checkpoint, leave. Runs in the main thread of a worker's process."""
    signal.signal(signal.SIGTERM, lambda *_: _terminated.set())


def train_worker(config: dict[str, Any]) -> None:
    """Train a stage, as one rank. Called by Ray Train in every worker, anew after each restart."""
    told = WorkerConfig.model_validate(config)
    torch.set_num_threads(told.cluster.threads_per_worker)
    _Rank(told).run()


@dataclass(frozen=True)
class _Resumed:
    """Where this attempt begins."""

    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    seconds: TimeSplit = field(default_factory=TimeSplit)


class _Rank:
    """A rank's parts, put together."""

    def __init__(self, told: WorkerConfig) -> None:
        self._spec, self._cluster = told.spec, told.cluster
        context = ray.train.get_context()
        self._rank, self._world_size = context.get_world_rank(), context.get_world_size()
        self._monitor = ray.get_actor(told.monitor)
        self._manifest, self._plan = open_plan(told.spec.plan)
        self._store = CheckpointStore(told.spec.checkpoints_url, told.spec.keep_checkpoints)
        share = len(self._plan.slots(0, self._rank, self._world_size))  # refuses a world size that does not divide
        torch.manual_seed(told.spec.seed)
        model = build_network(told.spec.mode, told.spec.model, len(self._manifest.classes), told.spec.motion)
        self._engine: Engine = DeepSpeedEngine(
            model, told.spec.optim, micro_batch=share, preset=told.preset, device=told.cluster.device
        )
        self._ema = Ema(self._engine.model, told.spec.optim.ema_decay)
        self._resumed = self._resume()
        self._layout = PacketLayout(
            first_step=self._resumed.step,
            total_steps=self._plan.total_steps,
            global_batch=self._plan.global_batch,
            world_size=self._world_size,
            windows=windows_per_packet(share, told.spec.window),
        )

    def run(self) -> None:
        """Train what is left of the plan, and say how it ended."""
        if self._resumed.step == self._plan.total_steps:  # stopped between the last checkpoint and the weights
            self._end(GO_ON, self._plan.total_steps, self._resumed.losses, self._resumed.seconds)
            return
        spec, stopwatch = self._spec, Stopwatch(self._resumed.seconds)
        received = self._open_data(stopwatch)
        logs: list[LogLines] = []  # rank 0's
        agreement = Agreement(received, lambda: _terminated.is_set() or any(line.stop_asked for line in logs))
        if self._rank == 0:
            logs.append(LogLines(spec.log_url, agreement, self._monitor, self._resumed.step))
        meta = {"plan_digest": self._plan.digest, "world_size": self._world_size}
        checkpoints = CheckpointEvery(
            self._store, spec.checkpoint_every_steps, agreement, meta, stopwatch, logs[0] if logs else None
        )
        taken = train(
            self._engine,
            lambda model, batch: STEPS[spec.mode](model, batch, spec.distill),
            received,
            self._expected(),
            spec.optim,
            first_step=self._resumed.step,
            ema=self._ema,
            callbacks=[agreement, *logs, checkpoints, Preemption(agreement)],
        )
        self._end(agreement.stop, taken, agreement.losses, stopwatch.split())

    def _open_data(self, stopwatch: Stopwatch) -> Received:
        if self._rank == 0:  # before it asks for its shard: the pipeline is built for this layout
            ray.get(self._monitor.started.remote(self._layout))
        shard = ray.train.get_dataset_shard(DATASET)
        return Received(batches(shard, self._layout), self._cluster.device, self._monitor, stopwatch)

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
        )

    def _resume(self) -> _Resumed:
        """Load the newest good checkpoint. Rank 0 decides which, so that all load the same."""
        found = self._store.load_latest() if self._rank == 0 else None
        step = ray.train.collective.broadcast_from_rank_zero(found[0].step if found else None)
        if step is None:
            return _Resumed()
        state, meta = found or self._store.load(step)
        check_plan(meta, self._plan, self._spec)
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
            save_network(self._spec.weights_url, self._describe(), self._ema.tensors)
        ray.get(self._monitor.finished.remote(Outcome(reason, taken, losses, seconds)))  # type: ignore[arg-type]

    def _describe(self) -> NetworkSpec:
        return NetworkSpec(
            mode=self._spec.mode,
            model=self._spec.model,
            classes=self._manifest.classes,
            window=self._spec.window,
            motion=self._spec.motion,
            motion_fingerprint=self._spec.motion_fingerprint,
            plan_digest=self._plan.digest,
            manifest_digest=self._plan.manifest_digest,
        )
