"""Train one stage on a cluster: checks first, then Ray Train, then the result."""

import logging
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from tadscale.data.flow_windows import check_flow
from tadscale.data.manifest import Manifest
from tadscale.data.plan import Plan
from tadscale.data.quarantine import QuarantineExceeded
from tadscale.errors import UserError
from tadscale.flow.motion import motion_channels
from tadscale.network import spec_digest
from tadscale.runtime.cluster.capacity import DataPlane, alive_nodes, check_capacity, connect
from tadscale.runtime.cluster.stopping import Preempted, StopToken, kept_handlers
from tadscale.runtime.pipeline.dataset import PipelineSpec, PlanDataConfig
from tadscale.runtime.pipeline.motion_teacher import check_teacher
from tadscale.runtime.stage.plan_spec import ReadSources, open_plan
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.stage.spec import Stage
from tadscale.runtime.training.appearance_teacher import check_appearance_teacher
from tadscale.runtime.training.failed import Final, TrainingFailed
from tadscale.runtime.training.monitor import Summary, start_monitor
from tadscale.runtime.training.resume import check_stored, note_identity, note_result
from tadscale.runtime.training.watch import OnRecord, watching
from tadscale.runtime.training.worker import DATASET, WorkerConfig, install_sigterm_handler, train_worker

CAUSE = re.compile(r"^(?!ray\.)([\w.]*(?:Error|Exception|Exceeded)): (.+)$", re.MULTILINE)
PLACE = re.compile(r'^ *File "(.+)", line (\d+), in ', re.MULTILINE)
log = logging.getLogger(__name__)


def train_stage(stage: Stage, on_record: OnRecord | None = None, stop: StopToken | None = None) -> StageResult:
    """Train a stage to its end, through failures of workers; a finished one is not trained again.

    Args:
        stage: what to train, and where. The process is connected to the cluster if it is not yet.
        on_record: called with every step's record, from a thread of this process, half a second late at most. What it raises
            is logged and ends nothing.
        stop: the job's; by default SIGTERM and Ctrl-C are listened to here.

    Raises:
        ValueError: a setting does not fit the data, the cluster, the teacher, or what is already under the stage's URL.
        QuarantineExceeded: more videos are bad than the budget allows.
        Preempted: SIGTERM came, to this process or to a worker, or Ctrl-C. A checkpoint was written, unless training did not
            answer.
        UserError: such a thing was found by a worker alone.
        TrainingFailed: the workers failed too often, or once of what another attempt would not change.
        StorageError: the storage cannot be reached.
    """
    if stop is None:
        with StopToken().listening() as own:
            return train_stage(stage, on_record, own)
    manifest, plan = open_plan(stage.plan)
    finished = check_stored(stage, plan)
    if finished is not None:
        return finished
    preset = _check_settings(stage, manifest, plan)
    connect(stage.job.cluster)
    plane = stage.job.cluster.plane(alive_nodes(), motion=stage.needs_motion)
    log.info("%s: data plane %s", stage.url, plane)
    check_capacity(stage.job.cluster, motion=stage.needs_motion, plane=plane)
    note_identity(stage)
    name, monitor = start_monitor(
        stage.quarantine_url, stage.quarantine_budget, len(manifest), run=stage.job.name, stage=stage.mode
    )
    with stop.as_request():
        with watching(monitor, stop, on_record), kept_handlers():
            failure = _fit(_worker_config(stage, preset, name, ReadSources.of(manifest), plane))
        summary: Summary = ray.get(monitor.summary.remote())
        ray.kill(monitor)
        result = _result(stage, plan, _judge(stage, summary, failure), plane)
        note_result(stage, result)
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


class _Trainer(TorchTrainer):
    """Ray Train's, and Ctrl-C stays Python's: as a `KeyboardInterrupt` the job's record, its lease and its user hear of it.

    Ray Train's own handler waits for its controller to abort, which took 14 s and more, and then ends the process with exit
    code 1, without a word.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        pass


def _worker_config(
    stage: Stage, preset: dict[str, Any], monitor: str, read: ReadSources, plane: DataPlane
) -> WorkerConfig:
    fetches = stage.job.cluster.fetches_per_worker(ray.cluster_resources().get("CPU", 0.0))
    return WorkerConfig(stage=stage, preset=preset, monitor=monitor, read=read, plane=plane, fetches=fetches)


def _fit(config: WorkerConfig) -> TrainingFailedError | None:
    cluster = config.stage.job.cluster
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    resources = {"CPU": cluster.cpus_per_worker} | cluster.placed("training")
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    workers = cluster.workers if cluster.min_workers is None else (cluster.min_workers, cluster.workers)
    own_store = Path(tempfile.gettempdir()) / "tadscale-ray-train"
    trainer = _Trainer(
        train_worker,
        train_loop_config=config.model_dump(mode="json"),
        torch_config=_TrainProcesses(backend="nccl" if cluster.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=cluster.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            # Ray Train's own store stays empty: checkpoints are ours. A new name, or it would restore its old state.
            name=config.monitor,
            storage_path=str(own_store),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
        ),
        **(_ray_data(config) if config.plane == "ray" else {}),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        return error
    finally:
        shutil.rmtree(own_store / config.monitor, ignore_errors=True)
    return None


def _ray_data(config: WorkerConfig) -> dict[str, Any]:
    """What makes Ray Train build the pipeline and deal it out."""
    stage = config.stage
    spec = PipelineSpec(
        plan=stage.plan,
        read=config.read,
        flow_url=stage.flow_url,
        cache=stage.job.data.cache,
        stage_json=stage.model_dump_json() if stage.needs_motion else None,
        cluster=stage.job.cluster,
        monitor=config.monitor,
    )
    return {"datasets": {DATASET: ray.data.range(1)}, "dataset_config": PlanDataConfig(spec)}


def _check_settings(stage: Stage, manifest: Manifest, plan: Plan) -> dict[str, Any]:
    cluster = stage.job.cluster
    for workers in range(cluster.min_workers or cluster.workers, cluster.workers + 1):
        plan.slots(0, 0, workers)  # refuses a number that does not divide the global batch
    if stage.distils:
        check_teacher(stage, manifest)
    if stage.appearance is not None:
        check_appearance_teacher(stage, manifest)
    if stage.flow_url is not None:
        channels = motion_channels(stage.job.motion)
        check_flow(stage.flow_url, manifest, stage.window, stage.quarantine_budget, channels)
    return cluster.preset()


def _judge(stage: Stage, summary: Summary, failure: TrainingFailedError | None) -> Summary:
    """Raise what the user should see, unless the stage is finished."""
    if summary.over_budget is not None:
        raise QuarantineExceeded(summary.over_budget) from failure
    if summary.final is not None:
        raise _final(stage, summary.final) from failure
    if failure is not None:
        raise TrainingFailed(
            f"training of {stage.url} failed {summary.restarts + 1} time(s), at last with: {_causes(failure)}\n"
            "The same command goes on from the last checkpoint, if there is one; `tadscale logs NAME` has the traceback"
        ) from failure
    assert summary.outcome is not None
    if summary.outcome.reason == "preempted":
        raise Preempted(
            f"training of {stage.url} was told to stop after step {summary.outcome.step}: its checkpoint is written, and "
            "the same command goes on from it"
        )
    return summary


def _final(stage: Stage, final: Final) -> UserError | TrainingFailed:
    if final.kind == "input":
        return UserError(f"{final.says}\nTraining of {stage.url} ended of that, and was not tried again")
    if final.kind == "diverged":
        return TrainingFailed(
            f"training of {stage.url} diverged: {final.says}\n"
            "It was not tried again, for it would come to the same. If you suspect the hardware, the same command goes on "
            "from the last checkpoint, and after two divergences from one from the one before"
        )
    return TrainingFailed(
        f"training of {stage.url} ended of an error in the code: {final.says}\n"
        "It was not tried again. Once it is mended, the same command goes on from the last checkpoint, if there is one; "
        "`tadscale logs NAME` has the traceback"
    )


def _causes(failure: TrainingFailedError) -> str:
    """What went wrong on each rank."""
    failures: dict[int, Exception] = getattr(failure, "worker_failures", {0: failure})
    return "; ".join(dict.fromkeys(_cause(error, str(failure)) for error in failures.values()))


def _cause(error: Exception, traceback: str) -> str:
    """An error of a rank in a line. That of a task arrives as the text of its traceback: the root cause first, then what was
    raised from it, and Ray's wrapping last; an error of this project says most. What a rank itself raised arrives as it was,
    and where is in Ray's account of all ranks alone.
    """
    kind = type(error)
    if pairs := CAUSE.findall(str(error)):
        name, words = next((pair for pair in pairs if pair[0].startswith("tadscale.")), pairs[0])
    elif kind.__module__.startswith("ray."):
        return str(error).strip().rsplit("\n", 1)[-1]
    else:
        name, words = f"{kind.__module__}.{kind.__qualname__}", str(error).strip()
    said = f"{name.rsplit('.', 1)[-1]}: {words}".removesuffix(": ")
    places = PLACE.findall(traceback)
    return said if not places or name.startswith("tadscale.") else f"{said} ({places[-1][0]}, line {places[-1][1]})"


def _result(stage: Stage, plan: Plan, summary: Summary, plane: DataPlane) -> StageResult:
    assert summary.outcome is not None
    return StageResult(
        steps=summary.outcome.step,
        losses=summary.outcome.losses,
        url=stage.url,
        quarantined=summary.quarantined,
        seconds=summary.outcome.seconds,
        restarts=summary.restarts,
        plan_digest=plan.digest,
        manifest_digest=plan.manifest_digest,
        network_sha256=spec_digest(stage.weights_url),
        epochs=stage.optim.epochs,
        data_plane=plane,
        kept_epochs={epoch: spec_digest(stage.epoch_url(epoch)) for epoch in stage.kept_epochs},
    )
