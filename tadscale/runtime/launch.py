"""Train one stage on a cluster: checks first, then Ray Train, then the result."""

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from tadscale.data.manifest import Manifest
from tadscale.data.plan import Plan
from tadscale.data.quarantine import QuarantineExceeded
from tadscale.data.storage import StorageError, join, read_bytes, write_bytes
from tadscale.engine.loop import StepRecord
from tadscale.runtime.checkpoints import CheckpointStore
from tadscale.runtime.cluster import ClusterConfig, check_capacity, connect
from tadscale.runtime.monitor import Summary, start_monitor
from tadscale.runtime.motion_teacher import check_teacher
from tadscale.runtime.pipeline import PipelineSpec, PlanDataConfig
from tadscale.runtime.plan_spec import open_plan
from tadscale.runtime.stage import StageResult, StageSpec
from tadscale.runtime.worker import (
    CHECKPOINTS_NAME,
    DATASET,
    LOG_NAME,
    WEIGHTS_NAME,
    WorkerConfig,
    check_plan,
    install_sigterm_handler,
    train_worker,
)

RESULT_NAME = "result.json"
QUARANTINE_NAME = "quarantine.jsonl"
SPEC_NAME = "stage.json"
POLL_S = 0.5
# Fields of a stage that may differ from one part of a run to the next: they do not decide what is learned.
FREE = (
    "run_url",
    "data_url",
    "teacher_url",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "quarantine",
    "accept_changes",
)

log = logging.getLogger(__name__)


class Preempted(RuntimeError):
    """Training was told to stop; a checkpoint was written, and the same command goes on from it."""


class TrainingFailed(RuntimeError):
    """Training failed more often than `cluster.max_failures` allows."""


def train_stage(
    spec: StageSpec, cluster: ClusterConfig, on_record: Callable[[StepRecord], None] | None = None
) -> StageResult:
    """Train a stage to its end, through failures of workers; a finished one is not trained again.

    Args:
        spec: what to train.
        cluster: where. The process is connected to the cluster if it is not yet.
        on_record: called with every step's record, from a thread of this process, half a second late at most.

    Raises:
        ValueError: a setting does not fit the data, the cluster, the teacher, or what is already under `spec.url`.
        QuarantineExceeded: more videos are bad than the budget allows.
        Preempted: SIGTERM came, to this process or to a worker.
        TrainingFailed: the workers failed too often.
        StorageError: the storage cannot be reached.
    """
    spec = spec.model_copy(
        update={name: _absolute(getattr(spec, name)) for name in ("run_url", "data_url", "teacher_url")}
    )
    manifest, plan = open_plan(spec.plan)
    done = _check_stored(spec, plan)
    if done is not None:
        return done
    preset = _check_settings(spec, cluster, manifest, plan)
    connect(cluster)
    check_capacity(cluster, motion=spec.needs_motion)
    write_bytes(join(spec.url, SPEC_NAME), spec.model_dump_json(indent=1).encode())
    name, monitor = start_monitor(join(spec.url, QUARANTINE_NAME), spec.quarantine, len(manifest))
    told = WorkerConfig(spec=spec, cluster=cluster, preset=preset, monitor=name)
    with _watching(monitor, on_record), _stopping_on_sigterm(monitor):
        failure = _fit(told)
    summary: Summary = ray.get(monitor.summary.remote())
    ray.kill(monitor)
    result = _result(spec, plan, _judge(spec, summary, failure))
    write_bytes(join(spec.url, RESULT_NAME), result.model_dump_json(indent=1).encode())
    return result


@dataclass
class _TrainProcesses(TorchConfig):
    """Torch's process group, and a handler of SIGTERM in every worker."""

    @property
    def backend_cls(self) -> type:
        """See `BackendConfig`."""
        return _TrainBackend


class _TrainBackend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: _TrainProcesses) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(install_sigterm_handler)  # in the main thread, which alone may set handlers


def _fit(told: WorkerConfig) -> TrainingFailedError | None:
    cluster = told.cluster
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    resources = {"CPU": cluster.cpus_per_worker} | ({"GPU": cluster.gpus_per_worker} if cluster.gpus_per_worker else {})
    workers = cluster.workers if cluster.min_workers is None else (cluster.min_workers, cluster.workers)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=told.model_dump(mode="json"),
        torch_config=_TrainProcesses(backend="nccl" if cluster.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=cluster.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            # Ray Train's own store stays empty: checkpoints are ours. A new name, or it would restore its old state.
            name=told.monitor,
            storage_path=str(Path(tempfile.gettempdir()) / "tadscale-ray-train"),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
        ),
        datasets={DATASET: ray.data.range(1)},
        dataset_config=PlanDataConfig(
            PipelineSpec(
                plan=told.spec.plan,
                stage_json=told.spec.model_dump_json() if told.spec.needs_motion else None,
                cluster=cluster,
                monitor=told.monitor,
            )
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        return error
    return None


@contextmanager
def _watching(monitor: Any, on_record: Callable[[StepRecord], None] | None) -> Iterator[None]:
    """Hand every record to `on_record` while the block runs, and the last ones before it ends."""
    over = threading.Event()

    def watch() -> None:
        last = False
        while not last:
            last = over.wait(POLL_S)
            for record in ray.get(monitor.drain.remote()):
                if on_record is not None:
                    on_record(StepRecord(**record))

    thread = threading.Thread(target=watch, name="training records", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _stopping_on_sigterm(monitor: Any) -> Iterator[None]:
    """SIGTERM to this process asks the workers to stop at a checkpoint. Only a main thread can listen to signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: monitor.stop.remote())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_settings(spec: StageSpec, cluster: ClusterConfig, manifest: Manifest, plan: Plan) -> dict[str, Any]:
    for workers in range(cluster.min_workers or cluster.workers, cluster.workers + 1):
        plan.slots(0, 0, workers)  # refuses a number that does not divide the global batch
    if spec.distils:
        check_teacher(spec, manifest)
    return cluster.preset()


def _check_stored(spec: StageSpec, plan: Plan) -> StageResult | None:
    """What is already under the stage's URL must belong to this very stage; if that is finished, its result."""
    stored = _read_text(join(spec.url, SPEC_NAME))
    if stored and not spec.accept_changes:
        _check_same(StageSpec.model_validate_json(stored), spec)
    meta = CheckpointStore(join(spec.url, CHECKPOINTS_NAME)).latest_meta()
    if meta is not None:
        check_plan(meta, plan, spec)
    finished = _read_text(join(spec.url, RESULT_NAME))
    if not finished:
        return None
    result = StageResult.model_validate_json(finished)
    return result if result.plan_digest == plan.digest else None


def _check_same(stored: StageSpec, spec: StageSpec) -> None:
    before, now = stored.model_dump(exclude=set(FREE)), spec.model_dump(exclude=set(FREE))
    changed = [f"{name} ({before[name]} -> {now[name]})" for name in now if before[name] != now[name]]
    if changed:
        raise ValueError(
            f"{spec.url} holds a stage with other settings; changed: {'; '.join(changed)}. Give the run another name, or "
            "set accept_changes: true to go on from its checkpoints all the same"
        )


def _judge(spec: StageSpec, summary: Summary, failure: TrainingFailedError | None) -> Summary:
    """Raise what the user should see, unless the stage is finished."""
    if summary.over_budget is not None:
        raise QuarantineExceeded(summary.over_budget) from failure
    if failure is not None:
        raise TrainingFailed(
            f"training of {spec.url} failed {summary.restarts + 1} time(s): {failure}. The same command goes on from the "
            "last checkpoint"
        ) from failure
    assert summary.outcome is not None
    if summary.outcome.reason == "preempted":
        raise Preempted(
            f"training of {spec.url} was told to stop after step {summary.outcome.step}: its checkpoint is written, and "
            "the same command goes on from it"
        )
    return summary


def _result(spec: StageSpec, plan: Plan, summary: Summary) -> StageResult:
    assert summary.outcome is not None
    return StageResult(
        steps=summary.outcome.step,
        losses=summary.outcome.losses,
        weights_url=join(spec.url, WEIGHTS_NAME),
        log_url=join(spec.url, LOG_NAME),
        quarantine_url=join(spec.url, QUARANTINE_NAME),
        quarantined=summary.quarantined,
        seconds=summary.outcome.seconds,
        restarts=summary.restarts,
        plan_digest=plan.digest,
        manifest_digest=plan.manifest_digest,
    )


def _absolute(url: str | None) -> str | None:
    """Local paths as seen from here: workers run in other folders."""
    return url if url is None or "://" in url else str(Path(url).absolute())


def _read_text(url: str) -> str:
    try:
        return read_bytes(url).decode()
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return ""
        raise
