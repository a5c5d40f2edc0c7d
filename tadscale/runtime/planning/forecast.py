"""How long a job's stages will take, what they will wait for, and how much motion training needs: arithmetic only."""

import math
from typing import NamedTuple

from tadscale.network import Mode
from tadscale.runtime.cluster.capacity import ClusterConfig, DataPlane
from tadscale.runtime.pipeline.packets import windows_per_packet
from tadscale.runtime.planning.rates import EpochWindows, Rates
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import DISTILLING, settings_of, stage_modes

PACKET_CPU_S = 0.06  # Ray's CPU time for a packet, over all its processes (2 cores of an AMD EPYC)
STAGE_START_S = 12.0  # until the first step: processes, imports, the first packets (the same machine)
READ_S = 0.05  # two requests to an object store, 20 ms and more each, for what is kept of a window
STATE_BYTES = 16  # a parameter's share of a checkpoint: weight, two moments, moving average, float32 each


class StageForecast(NamedTuple):
    """What to expect of one training stage."""

    mode: Mode
    steps: int
    seconds: float
    """From its start to its end, undisturbed."""
    step_s: float
    """One optimiser step in the first epoch."""
    waits_for: str
    """What decides `step_s`: `training`, `motion`, `decoding`, or `CPUs` where the parts share too few of them."""
    motion_per_worker: float
    """Motion actors that keep one training worker busy while nothing is remembered; 0 where there is no motion, or workers
    make it."""
    checkpoint_mib: float
    plane: DataPlane
    """Who reads the data."""


class Forecast(NamedTuple):
    """What to expect of a job, and what it was worked out from."""

    stages: list[StageForecast]
    rates: Rates
    windows: int
    """In an epoch of the detector that sees most."""
    cpus: int

    @property
    def seconds(self) -> float:
        """All training, one stage after the other."""
        return sum(stage.seconds for stage in self.stages)


class CacheForecast(NamedTuple):
    """What a cache of what the teacher says would hold, and what it is worth (`teacher.cache`)."""

    bytes: int
    """Of all windows of an epoch."""
    saved_s: float
    """By a run that finds it filled, over one that makes everything: less than 0 if reading is what it would wait for."""


def teacher_cache_forecast(job: JobConfig, expected: Forecast) -> CacheForecast | None:
    """Whether a cache of what the teacher says would pay; None where no teacher is asked, or windows change each time.

    Args:
        job: what was forecast.
        expected: see `forecast`.
    """
    taught = [stage for stage in expected.stages if stage.mode in DISTILLING]
    if not taught or job.data.window.augment.varies:
        return None
    reading = expected.rates._replace(motion_s=READ_S, teacher_s=0.0)
    filled = [_stage(job, stage.mode, expected.windows, reading, expected.cpus, stage.plane) for stage in taught]
    saved_s = sum(now.seconds - then.seconds for now, then in zip(taught, filled, strict=True))
    return CacheForecast(expected.windows * expected.rates.taught_bytes, saved_s)


def forecast(job: JobConfig, windows: EpochWindows, rates: Rates, cpus: int, nodes: int = 1) -> Forecast:
    """Every stage of a job, on a cluster with so many CPUs. The parts of a step overlap: the slowest decides.

    Args:
        job: its schedule and its share of the cluster.
        windows: in an epoch.
        rates: of one window, see `measure_rates`; a stage that was not timed is left out.
        cpus: cores that there are; more logical CPUs than that do not make it faster.
        nodes: of the cluster, which decide who reads the data.
    """

    def stage(mode: Mode) -> StageForecast:
        parts, plane = _parts(job, mode), job.cluster.plane(nodes, motion=mode != "baseline")
        return _stage(settings_of(job, mode), mode, windows.of(mode), _of_part(rates, parts), cpus, plane)

    timed = [mode for mode in stage_modes(job) if mode in rates.train_s]
    most = max((windows.of(mode) for mode in timed if mode != "pretrain"), default=windows.detectors)
    return Forecast([stage(mode) for mode in timed], rates, most, cpus)


def _parts(job: JobConfig, mode: Mode) -> int:
    """How many windows of a mode's own length a detector's window holds."""
    return max(1, job.data.window.frames // settings_of(job, mode).data.window.frames)


def _of_part(rates: Rates, parts: int) -> Rates:
    """What so small a part of a window costs to fetch, and its motion."""
    return rates._replace(
        fetch_s=rates.fetch_s / parts, motion_s=rates.motion_s / parts, motion_bytes=rates.motion_bytes // parts
    )


def _stage(job: JobConfig, mode: Mode, windows: int, rates: Rates, cpus: int, plane: DataPlane) -> StageForecast:
    steps_per_epoch = math.ceil(windows / job.optim.global_batch)
    made = _Made(rates.fetch_s, _motion_s(mode, rates))
    first, later = (
        _step(job, mode, rates, cpus, each, plane) for each in (made, _again(job, mode, windows, rates, plane))
    )
    step_s, waits_for = max((seconds, part) for part, seconds in first.items())
    epochs_s = steps_per_epoch * (step_s + (job.optim.epochs - 1) * max(later.values()))
    return StageForecast(
        mode=mode,
        steps=steps_per_epoch * job.optim.epochs,
        seconds=STAGE_START_S + epochs_s,
        step_s=step_s,
        waits_for=waits_for,
        motion_per_worker=made.motion_s / _train_s(mode, rates) if plane == "ray" else 0.0,
        checkpoint_mib=STATE_BYTES * rates.parameters[mode] / 2**20,
        plane=plane,
    )


def _train_s(mode: Mode, rates: Rates) -> float:
    """Of a window in a training worker, the appearance teacher's pass over it included."""
    return rates.train_s[mode] + (rates.appearance_teacher_s if mode == "decomposed" else 0.0)


def _motion_s(mode: Mode, rates: Rates) -> float:
    """Of a window, where motion is made."""
    if mode == "baseline":
        return 0.0
    return rates.motion_s + (rates.teacher_s if mode in DISTILLING else 0.0)


class _Made(NamedTuple):
    """Seconds that a window takes on its way to the worker."""

    fetch_s: float
    motion_s: float


def _again(job: JobConfig, mode: Mode, windows: int, rates: Rates, plane: DataPlane) -> _Made:
    """The same from the second epoch on, where most of it may be remembered (see `WindowMemo`)."""
    cluster, window, motion_s = job.cluster, job.data.window, _motion_s(mode, rates)
    if window.augment.varies:
        return _Made(rates.fetch_s, motion_s)
    made = rates.taught_bytes if mode in DISTILLING else rates.motion_bytes
    if plane == "ray":
        known = _remembered(cluster.motion_actors, cluster.motion_memo_mib, windows * made)
        return _Made(rates.fetch_s, motion_s * (1 - known))
    known = _remembered(cluster.workers, cluster.motion_memo_mib, windows * made)
    decoded = _remembered(cluster.workers, cluster.decoded_memo_mib, windows * window.frames * window.blank(1).nbytes)
    return _Made(rates.fetch_s * (1 - decoded), motion_s * (1 - known))


def _remembered(processes: int, memo_mib: int, size: int) -> float:
    """Share of `size` bytes of results that is not made again, where each process has a memo of its own.

    Each of n processes has seen a window with chance 1/n an epoch; as for the second epoch is good enough here.
    """
    return min(1.0, processes * (memo_mib << 20) / size) / processes


def _step(job: JobConfig, mode: Mode, rates: Rates, cpus: int, made: _Made, plane: DataPlane) -> dict[str, float]:
    """Seconds of each part of a step, were it alone."""
    cluster, batch = job.cluster, job.optim.global_batch
    share, embedded = batch // cluster.workers, plane == "embedded"
    train_s = _train_s(mode, rates)
    makers = cluster.workers if embedded else cluster.motion_actors
    motion_threads = cluster.threads_per_worker if embedded else cluster.threads_per_motion
    motion_on_gpu = cluster.gpus_per_worker if embedded else cluster.gpus_per_motion
    on_cpu = made.fetch_s + (0.0 if embedded else PACKET_CPU_S / windows_per_packet(share, job.data.window))
    on_cpu += 0.0 if motion_on_gpu else made.motion_s * motion_threads
    on_cpu += 0.0 if cluster.gpus_per_worker else train_s * cluster.threads_per_worker
    return {
        "training": share * train_s,
        "motion": batch * made.motion_s / makers,
        "decoding": batch * made.fetch_s / _fetching(cluster, cpus, plane, motion=mode != "baseline"),
        "CPUs": batch * on_cpu / cpus,
    }


def _fetching(cluster: ClusterConfig, cpus: int, plane: DataPlane, *, motion: bool) -> int:
    """Windows that are fetched at a time. Actors for `motion` keep their CPUs to the stage's end."""
    if plane == "embedded":
        return cluster.workers * cluster.fetches_per_worker(cpus)
    reserved = cluster.workers * cluster.cpus_per_worker + cluster.motion_actors * cluster.cpus_per_motion * motion
    fetching = max(1, int((max(cpus, reserved + cluster.cpus_per_fetch) - reserved) / cluster.cpus_per_fetch))
    return min(fetching, cluster.max_fetches or fetching)
