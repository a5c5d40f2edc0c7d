"""What a window costs on this machine, measured stage by stage: fetching, motion, the teacher, a training step."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from tadscale.data.manifest import MANIFEST_NAME
from tadscale.data.plan import Plan
from tadscale.data.shards import write_shards
from tadscale.data.source import Source, open_sources
from tadscale.data.sprites import class_names, draw_videos
from tadscale.data.storage import list_names
from tadscale.engine.autocast import UnderAutocast
from tadscale.engine.batch import WindowBatch, teacher_columns
from tadscale.engine.engine import LocalEngine, NonFiniteGradient
from tadscale.engine.loop import not_finite
from tadscale.engine.pretrain import TargetScale, pretrain_step
from tadscale.engine.steps import Lesson, StepFunction, step_function
from tadscale.errors import UserError
from tadscale.flow.motion import build_motion, window_motion
from tadscale.models.detector import Detector
from tadscale.models.heads.objective import build_objective
from tadscale.network import Mode, NetworkSpec
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.packets import Columns, PacketLayout
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import DISTILLING, network_of, settings_of
from tadscale.runtime.stage.plan_spec import PlanSpec, open_plan
from tadscale.runtime.stage.spec import Stage

REPEATS = 5  # after one that warms up; the median counts
ANY_SCALE = TargetScale(motion_std=1.0, colour_mean=(0.0, 0.0, 0.0), colour_std=(1.0, 1.0, 1.0))  # costs the same


class Rates(NamedTuple):
    """Seconds that one window takes alone, with the threads that the job gives to each part."""

    fetch_s: float
    motion_s: float
    teacher_s: float
    """The frozen teacher on the motion of a window."""
    train_s: dict[Mode, float]
    """Forward, backward and update, on a batch of one."""
    parameters: dict[Mode, int]
    motion_bytes: int
    """A window's motion, as it travels."""
    taught_bytes: int
    """What the teacher says of a window, as it travels."""
    appearance_teacher_s: float = 0.0
    """The frozen appearance teacher on the frames of a window, in the student's training worker; 0 where there is none."""


class EpochWindows(NamedTuple):
    """How many windows an epoch has."""

    detectors: int
    """Of the teacher's and the baseline's, which see labelled sources alone."""
    pretext: int
    """Of the pretext's, which are shorter; 0 where the job has none."""
    students: int | None = None
    """Of the student's, which sees all sources; None: as many as the teacher's."""

    def of(self, mode: Mode) -> int:
        """Of a stage's."""
        if mode == "pretrain":
            return self.pretext
        return self.students if mode in DISTILLING and self.students is not None else self.detectors


def measure_rates(
    job: JobConfig, modes: Sequence[Mode], appearance: NetworkSpec | None = None
) -> tuple[Rates, EpochWindows]:
    """Time each part of a job on one of its own training windows, on the devices that the job names.

    Each part is timed alone: on cores that all parts share, the job itself takes longer (the demo's stages a third).

    Args:
        job: what is planned.
        modes: its stages.
        appearance: the appearance teacher that it names, if it names one.

    Returns:
        The rates, and how many windows an epoch has.

    Raises:
        UserError: there is no training window or it cannot be read, or a device of the job's is not here.
        StorageError: the storage cannot be reached.
    """
    cluster = job.cluster
    if "cuda" in (cluster.device, cluster.motion_device) and not torch.cuda.is_available():
        raise UserError(
            "the job computes on GPUs, and this machine has none: measure on a node of the cluster, or set "
            "cluster.gpus_per_worker=0 and cluster.gpus_per_motion=0 for the times on CPUs"
        )
    with _training_videos(job, modes) as (sources, windows):
        return _measure(job, modes, sources, appearance), windows


def _measure(job: JobConfig, modes: Sequence[Mode], sources: Sequence[Source], appearance: NetworkSpec | None) -> Rates:
    cluster = job.cluster
    classes = open_sources(sources).classes or ("any",)  # a pretext needs none, and the teacher is timed all the same
    columns, fetch_s = _fetch(sources, job)
    torch.set_num_threads(cluster.threads_per_motion)
    motion_columns, taught_columns, motion_s, teacher_s = _motion_and_teacher(job, columns, classes)
    torch.set_num_threads(cluster.threads_per_worker)
    train_s, parameters = {}, {}
    for mode in modes:
        added = taught_columns if mode in DISTILLING else motion_columns
        batch = WindowBatch.from_numpy(columns | added, cluster.device)
        train_s[mode], parameters[mode] = _train(job, mode, batch, classes)
    motion_bytes, taught_bytes = (
        sum(array.nbytes for array in packet.values()) for packet in (motion_columns, taught_columns)
    )
    appearance_s = _appearance_teacher(job, columns, classes, appearance)
    return Rates(fetch_s, motion_s, teacher_s, train_s, parameters, motion_bytes, taught_bytes, appearance_s)


@contextmanager
def _training_videos(job: JobConfig, modes: Sequence[Mode]) -> Iterator[tuple[list[Source], EpochWindows]]:
    """Where a window to measure on is, and the windows of all training videos; one video is drawn aside if all are still to
    be, and as many windows are expected of each."""
    data = job.data
    if data.sprites is None or data.sources or MANIFEST_NAME in list_names(data.url):
        yield _measurable(data.training_sources), _count(job, modes)
        return
    few = data.sprites.model_copy(update={"train": 1, "validation": 0, "test": 0})
    with tempfile.TemporaryDirectory() as folder:
        write_shards(draw_videos(few), folder, classes=class_names(few))
        aside = job.model_copy(update={"data": data.model_copy(update={"url": folder})})
        yield _measurable(aside.data.training_sources), _count(aside, modes, videos=data.sprites.train)


def _measurable(sources: Sequence[Source]) -> list[Source]:
    """What any network can take a step on: the labelled ones, if there are some; a batch of one has no shares."""
    labelled = [source for source in sources if source.labelled]
    return [source.model_copy(update={"share": None}) for source in labelled or sources]


def _count(job: JobConfig, modes: Sequence[Mode], videos: int = 1) -> EpochWindows:
    """Of the sources that each mode reads, times `videos`. Those of the pretext fit neither a whole number of times into a
    detector's, nor do they overlap."""
    counts = {mode: videos * _windows(open_plan(Stage(job=job, mode=mode).plan)[1]) for mode in modes}
    students = next((count for mode, count in counts.items() if mode in DISTILLING), None)
    detectors = next((counts[mode] for mode in ("teacher", "baseline") if mode in counts), students or 0)
    return EpochWindows(detectors, counts.get("pretrain", 0), students)


def _windows(plan: Plan) -> int:
    """Of an epoch: every one once, or where sources have shares as many as its steps have slots."""
    return plan.steps_per_epoch * plan.global_batch if any(plan.shares) else len(plan.windows)


def _fetch(sources: Sequence[Source], job: JobConfig) -> tuple[Columns, float]:
    """One window as the pipeline brings it."""
    plan = PlanSpec(sources=tuple(sources), window=job.data.window, seed=job.seed, epochs=1, global_batch=1)
    layout = PacketLayout(first_step=0, total_steps=1, global_batch=1, world_size=1, windows=1)
    columns = fetch_packet(0, plan, layout, job.motion.flow_url)
    if not columns["valid"].all():
        raise UserError(
            f"a training window cannot be read, so nothing can be measured on it: {columns['error'][0]}; "
            "`tadscale data lint --decode` finds all bad videos"
        )
    del columns["error"], columns["fetch"], columns["loaded_unix_s"]  # a rank takes them out before it makes tensors
    return columns, seconds(lambda: fetch_packet(0, plan, layout, job.motion.flow_url), "cpu")


def _motion_and_teacher(
    job: JobConfig, columns: Columns, classes: tuple[str, ...]
) -> tuple[Columns, Columns, float, float]:
    device = job.cluster.motion_device
    compute = build_motion(job.motion)
    network = network_of(job, "teacher", classes).build().eval().to(device)
    assert isinstance(network, Detector)
    source = "frames" if job.motion.flow_url is None else "flow"
    frames, mask = torch.from_numpy(columns[source]).to(device), torch.from_numpy(columns["mask"]).to(device)
    valid = columns["mask"].sum(1).tolist()
    with torch.inference_mode():
        motion = window_motion(compute, frames, valid)  # [1, C, T, H, W]
        output = network(motion, mask)
        motion_s = seconds(lambda: window_motion(compute, frames, valid), device)
        teacher_s = seconds(lambda: network(motion, mask), device)
    taught = {name: value.cpu().numpy() for name, value in teacher_columns(output).items()}
    return {"motion_fields": motion.to(torch.float16).cpu().numpy()}, taught, motion_s, teacher_s


def _appearance_teacher(job: JobConfig, columns: Columns, classes: tuple[str, ...], named: NetworkSpec | None) -> float:
    """The network that is named, or the run's own baseline by its settings."""
    if job.kind != "distill" or job.student.appearance_teacher is None:
        return 0.0
    device = job.cluster.device
    network = (named or network_of(job, "baseline", classes)).build().eval().to(device)
    frames, mask = torch.from_numpy(columns["frames"]).to(device), torch.from_numpy(columns["mask"]).to(device)
    with torch.inference_mode():
        return seconds(lambda: network(frames, mask), device)


def _train(job: JobConfig, mode: Mode, batch: WindowBatch, classes: tuple[str, ...]) -> tuple[float, int]:
    network = network_of(job, mode, classes).build(for_training=True).to(job.cluster.device)
    called = UnderAutocast(network, torch.float32 if job.cluster.precision == "float32" else torch.bfloat16)
    engine = LocalEngine(network, job.optim)
    engine.set_lr(0.0)
    losses: StepFunction
    if mode == "pretrain" and job.pretrain is not None:
        batch = _first_frames(batch, settings_of(job, mode).data.window.frames)
        losses = partial(pretrain_step, job.pretrain, ANY_SCALE)
    else:
        objective = build_objective(job.model.head, len(classes))
        student = job.student.model_copy(update={"appearance_teacher": None})  # timed apart
        losses = step_function(mode, Lesson(objective=objective, student=student, global_batch=1))

    def step() -> None:
        parts = losses(called, batch)
        engine.backward(parts["loss"])
        try:
            engine.step()
        except NonFiniteGradient as error:
            raise UserError(
                f"on one training window the gradient of the untrained {mode} network is not finite{not_finite(parts)}: "
                "look at the losses of the head, or at the videos (tadscale data lint --decode)"
            ) from error

    return seconds(step, job.cluster.device), sum(parameter.numel() for parameter in network.parameters())


def _first_frames(batch: WindowBatch, frames: int) -> WindowBatch:
    """A shorter window."""
    assert batch.frames is not None and batch.motion_fields is not None
    return replace(
        batch,
        frames=batch.frames[:, :frames],
        mask=batch.mask[:, :frames],
        motion_fields=batch.motion_fields[:, :, :frames],
    )


def seconds(work: Callable[[], object], device: str) -> float:
    """The median time of some work, in seconds, once it is warm."""

    def once() -> float:
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    return statistics.median(once() for _ in range(REPEATS))
