"""What watches the loop on every rank: agreement between ranks, the log, checkpoints, preemption."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import ray
import ray.train
import torch
import torch.distributed

from tadscale.data.blocks import sum_counts
from tadscale.engine.engine import TrainState
from tadscale.engine.loop import StepRecord
from tadscale.runtime.pipeline.teacher_cache import CacheCount
from tadscale.runtime.stage.stopwatch import Stopwatch
from tadscale.runtime.training.batches import RankBatches
from tadscale.runtime.training.checkpoint_writer import CheckpointWriter
from tadscale.runtime.training.data_rates import DataRates
from tadscale.runtime.training.rank_report import GO_ON, OVER_BUDGET, PREEMPTED, RankReport
from tadscale.runtime.training.stage_log import PART_STEPS, Parts, StageLog

DRAIN_CHECK_STEPS = 10  # asking Ray whether a node is about to go is a barrier of some milliseconds

State = Callable[[], TrainState]


class Agreement:
    """Lets every rank know the same after each step: a rank that stopped alone would leave the others hanging.

    One gather of 17 integers a step, and two more a window. Comes first: the other callbacks read it.

    Args:
        batches: this rank's batches.
        stop_asked: whether this rank should stop for preemption.
    """

    def __init__(self, batches: RankBatches, stop_asked: Callable[[], bool]) -> None:
        self._batches = batches
        self._stop_asked = stop_asked
        self._drains_seen = False
        self.reports: list[RankReport] = []
        """Of the latest step, by rank."""
        self.losses: dict[str, float] = {}
        """Of the latest step."""
        self.node_leaves = False
        """True for one step, when Ray has announced that a node will be taken away."""

    @property
    def stop(self) -> int:
        """Why to stop, on all ranks alike."""
        return max(report.stop for report in self.reports)

    def after_step(self, record: StepRecord, state: State) -> bool:
        """See `Callback`."""
        stop = OVER_BUDGET if self._batches.over_budget else PREEMPTED if self._stop_asked() else GO_ON
        batches = self._batches
        report = RankReport(
            *batches.positions,
            valid=batches.valid,
            stop=stop,
            fetch=batches.fetch,
            teacher_cache=batches.teacher_cache,
            waited_us=batches.waited_us,
            times_us=batches.times_us,
        )
        mine = torch.tensor(report.to_numbers())
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        everyone = [torch.empty_like(mine, device=device) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(everyone, mine.to(device))
        self.reports = [RankReport.from_numbers(numbers.tolist()) for numbers in everyone]
        self.losses = record.losses
        self.node_leaves = False
        if not self._drains_seen and record.step % DRAIN_CHECK_STEPS == 0:
            self.node_leaves = self._drains_seen = ray.train.get_preemption_info() is not None
        return False


class LogLines:
    """One JSON line a step, on rank 0; the driver sees each at once, storage with every checkpoint.

    A checkpoint and the log up to it belong together: after a crash, steps past the checkpoint are trained again and
    logged again, so the log tells the story of the weights and of nothing else.

    Args:
        stored: the log in storage.
        agreement: knows every rank's positions.
        monitor: takes the records; answers whether to stop.
        first_step: where this attempt begins; lines of earlier attempts from there on are dropped.
    """

    def __init__(self, stored: StageLog, agreement: Agreement, monitor: Any, first_step: int) -> None:
        self._stored = stored
        self._agreement = agreement
        self._monitor = monitor
        self._parts = stored.take_up(first_step)
        self._rates = DataRates()
        self._answers: list[Any] = []
        self.stop_asked = False
        """Whether the driver wants training to stop."""

    def after_step(self, record: StepRecord, state: State) -> bool:
        """See `Callback`."""
        ranks = self._agreement.reports
        positions = [[report.first_position, report.last_position] for report in ranks]
        fetch = sum_counts(report.fetch for report in ranks)
        valid = sum(report.valid for report in ranks)
        plain = asdict(replace(record, data=self._rates.step(ranks)))
        cached = CacheCount(*map(sum, zip(*(report.teacher_cache for report in ranks), strict=True)))
        told = {"teacher_cache": cached._asdict()} if any(cached) else {}
        line = json.dumps(plain | {"positions": positions, "valid": valid, "fetch": fetch._asdict()} | told)
        self._parts.setdefault(record.step // PART_STEPS, []).append(line)
        self._answers.append(self._monitor.record.remote(plain))
        ready, self._answers = ray.wait(self._answers, num_returns=len(self._answers), timeout=0)
        self.stop_asked |= any(ray.get(ready))
        return False

    def take(self) -> Parts:
        """The parts that have grown since the last call; of what is full, memory keeps nothing."""
        taken = {part: list(lines) for part, lines in self._parts.items()}
        newest = max(self._parts)
        self._parts = {newest: self._parts[newest]}
        return taken

    def write(self, parts: Parts) -> None:
        """Write what `take` gave; may run beside the training."""
        self._stored.write(parts)


class CheckpointEvery:
    """Takes the state every so many steps, at the plan's end, before a preemption and before a node leaves.

    It is written beside the steps that follow, but for the last three, which are waited for: nothing may follow them.

    Args:
        every_steps: how often.
        agreement: knows of preemption.
        stopwatch: takes the time for which training pauses: for the write before, for gathering and copying.
        writer: rank 0's; None on other ranks, which only take part in gathering the state.
    """

    def __init__(
        self, every_steps: int, agreement: Agreement, stopwatch: Stopwatch, writer: CheckpointWriter | None
    ) -> None:
        self._every_steps = every_steps
        self._agreement = agreement
        self._stopwatch = stopwatch
        self._writer = writer

    def after_step(self, record: StepRecord, state: State) -> bool:
        """See `Callback`. Raises what the write of an earlier state raised."""
        taken = record.step + 1
        last = taken == record.total_steps or self._agreement.node_leaves or self._agreement.stop == PREEMPTED
        if self._writer is not None:
            self._writer.check()
        if last or taken % self._every_steps == 0:
            started = time.monotonic()
            self._take(record, state, last)
            self._stopwatch.checkpoint_s += time.monotonic() - started
        return False

    def _take(self, record: StepRecord, state: State, last: bool) -> None:
        if self._writer is None:
            state()
            return
        self._writer.wait()  # before gathering: memory holds one state, not two
        self._writer.write(state(), record.losses)
        if last:
            self._writer.wait()


class Preemption:
    """Ends the loop on all ranks at once, when one was told to stop or met one bad video too many. Comes last."""

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement

    def after_step(self, record: StepRecord, state: State) -> bool:
        """See `Callback`."""
        return self._agreement.stop != GO_ON
