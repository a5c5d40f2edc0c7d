"""How long a job's stages will take, what they will wait for, and how much motion training needs: arithmetic only."""

import math
from typing import NamedTuple

from tadscale.network import Mode
from tadscale.runtime.pipeline.packets import windows_per_packet
from tadscale.runtime.planning.rates import Rates
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import DISTILLING, settings_of, stage_modes

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
    """Motion actors that keep one training worker busy while nothing is remembered; 0 where there is no motion."""
    checkpoint_mib: float


class Forecast(NamedTuple):
    """What to expect of a job, and what it was worked out from."""

    stages: list[StageForecast]
    rates: Rates
    windows: int
    """In an epoch."""
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
    filled = [_stage(job, stage.mode, expected.windows, reading, expected.cpus) for stage in taught]
    saved_s = sum(now.seconds - then.seconds for now, then in zip(taught, filled, strict=True))
    return CacheForecast(expected.windows * expected.rates.taught_bytes, saved_s)


def forecast(job: JobConfig, windows: int, rates: Rates, cpus: int) -> Forecast:
    """Every stage of a job, on a cluster with so many CPUs. The parts of a step overlap: the slowest decides.

    Args:
        job: its schedule and its share of the cluster.
        windows: in an epoch.
        rates: of one window, see `measure_rates`.
        cpus: cores that there are; more logical CPUs than that do not make it faster.
    """
    stages = [
        _stage(settings_of(job, mode), mode, windows * _parts(job, mode), _of_part(rates, _parts(job, mode)), cpus)
        for mode in stage_modes(job)
    ]
    return Forecast(stages, rates, windows, cpus)


def _parts(job: JobConfig, mode: Mode) -> int:
    """How many windows of a mode's own length a detector's window holds."""
    return max(1, job.data.window.frames // settings_of(job, mode).data.window.frames)


def _of_part(rates: Rates, parts: int) -> Rates:
    """What so small a part of a window costs to fetch, and its motion."""
    return rates._replace(
        fetch_s=rates.fetch_s / parts, motion_s=rates.motion_s / parts, motion_bytes=rates.motion_bytes // parts
    )


def _stage(job: JobConfig, mode: Mode, windows: int, rates: Rates, cpus: int) -> StageForecast:
    steps_per_epoch = math.ceil(windows / job.optim.global_batch)
    motion_s = _motion_s(mode, rates)
    first, later = (
        _step(job, mode, rates, cpus, seconds) for seconds in (motion_s, _repeated_s(job, mode, windows, rates))
    )
    step_s, waits_for = max((seconds, part) for part, seconds in first.items())
    epochs_s = steps_per_epoch * (step_s + (job.optim.epochs - 1) * max(later.values()))
    return StageForecast(
        mode=mode,
        steps=steps_per_epoch * job.optim.epochs,
        seconds=STAGE_START_S + epochs_s,
        step_s=step_s,
        waits_for=waits_for,
        motion_per_worker=motion_s / _train_s(mode, rates),
        checkpoint_mib=STATE_BYTES * rates.parameters[mode] / 2**20,
    )


def _train_s(mode: Mode, rates: Rates) -> float:
    """Of a window in a training worker, the appearance teacher's pass over it included."""
    return rates.train_s[mode] + (rates.appearance_teacher_s if mode == "decomposed" else 0.0)


def _motion_s(mode: Mode, rates: Rates) -> float:
    """Of a window, where motion is made."""
    if mode == "baseline":
        return 0.0
    return rates.motion_s + (rates.teacher_s if mode in DISTILLING else 0.0)


def _repeated_s(job: JobConfig, mode: Mode, windows: int, rates: Rates) -> float:
    """The same from the second epoch on, where most of it may be remembered (see `WindowMemo`).

    Each of n actors has seen a window with chance 1/n an epoch; as for the second epoch is good enough here.
    """
    if job.data.window.augment.varies:
        return _motion_s(mode, rates)
    actors = job.cluster.motion_actors
    size = rates.taught_bytes if mode in DISTILLING else rates.motion_bytes
    room = actors * (job.cluster.motion_memo_mib << 20) / (windows * size)
    return _motion_s(mode, rates) * (1 - min(1.0, room) / actors)


def _step(job: JobConfig, mode: Mode, rates: Rates, cpus: int, motion_s: float) -> dict[str, float]:
    """Seconds of each part of a step, were it alone."""
    cluster, batch = job.cluster, job.optim.global_batch
    share = batch // cluster.workers
    train_s = _train_s(mode, rates)
    ray_s = PACKET_CPU_S / windows_per_packet(share, job.data.window)
    reserved = cluster.workers * cluster.cpus_per_worker + cluster.motion_actors * cluster.cpus_per_motion * (
        motion_s > 0
    )
    fetching = max(1, int((max(cpus, reserved + cluster.cpus_per_fetch) - reserved) / cluster.cpus_per_fetch))
    fetching = min(fetching, cluster.max_fetches or fetching)
    on_cpu = rates.fetch_s + ray_s
    on_cpu += 0.0 if cluster.gpus_per_motion else motion_s * cluster.threads_per_motion
    on_cpu += 0.0 if cluster.gpus_per_worker else train_s * cluster.threads_per_worker
    return {
        "training": share * train_s,
        "motion": batch * motion_s / cluster.motion_actors,
        "decoding": batch * rates.fetch_s / fetching,
        "CPUs": batch * on_cpu / cpus,
    }
