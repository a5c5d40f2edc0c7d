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

from tadscale.data.manifest import MANIFEST_NAME, Manifest, read_manifest
from tadscale.data.shards import write_shards
from tadscale.data.source import Source, training_windows
from tadscale.data.sprites import class_names, draw_videos
from tadscale.data.storage import list_names
from tadscale.engine.batch import WindowBatch, teacher_columns
from tadscale.engine.engine import LocalEngine
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
from tadscale.runtime.stage.plan_spec import PlanSpec
from tadscale.runtime.stage.spec import DISTILLING, network_of, settings_of

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
    """Of the teacher's, the baseline's and the student's."""
    pretext: int
    """Of the pretext's, which are shorter; 0 where the job has none."""


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
    with _training_videos(job) as (data_url, windows):
        return _measure(job, modes, data_url, appearance), windows


def _measure(job: JobConfig, modes: Sequence[Mode], data_url: str, appearance: NetworkSpec | None) -> Rates:
    cluster, classes = job.cluster, read_manifest(data_url).classes
    columns, fetch_s = _fetch(data_url, job)
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
def _training_videos(job: JobConfig) -> Iterator[tuple[str, EpochWindows]]:
    """Where training videos are, and the windows of them all; one is drawn aside if all are still to be, and as
    many are expected of each."""
    sprites = job.data.sprites
    if sprites is None or MANIFEST_NAME in list_names(job.data.url):
        manifest = read_manifest(job.data.url).subset(job.data.train_subset)
        yield job.data.url, _count(job, manifest)
        return
    few = sprites.model_copy(update={"train": 1, "validation": 0, "test": 0})
    with tempfile.TemporaryDirectory() as folder:
        drawn = write_shards(draw_videos(few), folder, classes=class_names(few))
        yield folder, EpochWindows(*(sprites.train * count for count in _count(job, drawn)))


def _count(job: JobConfig, manifest: Manifest) -> EpochWindows:
    """Of these videos. Those of the pretext fit neither a whole number of times into a detector's, nor do they overlap."""
    detectors, pretext = (
        len(training_windows(manifest, settings_of(job, mode).data.window, job.seed))
        for mode in ("baseline", "pretrain")
    )
    return EpochWindows(detectors, pretext if job.pretrain is not None else 0)


def _fetch(data_url: str, job: JobConfig) -> tuple[Columns, float]:
    """One window as the pipeline brings it."""
    source = Source(url=data_url, subset=job.data.train_subset)
    plan = PlanSpec(sources=(source,), window=job.data.window, seed=job.seed, epochs=1, global_batch=1)
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
        engine.backward(losses(engine.model, batch)["loss"])
        engine.step()

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
