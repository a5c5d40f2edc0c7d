"""What watches the loop on every rank: agreement between ranks, the log, checkpoints, preemption."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import ray
import ray.train
import torch
import torch.distributed

from tadscale.data.blocks import FetchCount, sum_counts
from tadscale.data.storage import read_text, write_bytes
from tadscale.engine.engine import TrainState
from tadscale.engine.loop import StepRecord
from tadscale.runtime.pipeline.teacher_cache import CacheCount
from tadscale.runtime.stage.stopwatch import Stopwatch
from tadscale.runtime.training.batches import RankBatches
from tadscale.runtime.training.checkpoints import CheckpointStore

GO_ON, PREEMPTED, OVER_BUDGET = range(3)
DRAIN_CHECK_STEPS = 10  # asking Ray whether a node is about to go is a barrier of some milliseconds

State = Callable[[], TrainState]


class RankReport(NamedTuple):
    """What each rank tells the others after a step."""

    first_position: int
    last_position: int
    valid: int
    stop: int
    """`GO_ON`, `PREEMPTED` or `OVER_BUDGET`."""
    fetch: FetchCount = FetchCount()
    """What it took to have the rank's windows."""
    teacher_cache: CacheCount = CacheCount()
    """What became of them in the cache of what the teacher says."""


class Agreement:
    """Lets every rank know the same after each step: a rank that stopped alone would leave the others hanging.

    One gather of twelve integers a step. Comes first: the other callbacks read it.

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
        mine = torch.tensor([*batches.positions, batches.valid, stop, *batches.fetch, *batches.teacher_cache])
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        everyone = [torch.empty_like(mine, device=device) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(everyone, mine.to(device))
        self.reports = [_report(*report.tolist()) for report in everyone]
        self.losses = record.losses
        self.node_leaves = False
        if not self._drains_seen and record.step % DRAIN_CHECK_STEPS == 0:
            self.node_leaves = self._drains_seen = ray.train.get_preemption_info() is not None
        return False


def _report(first_position: int, last_position: int, valid: int, stop: int, *counts: int) -> RankReport:
    fetch, cached = counts[: len(FetchCount())], counts[len(FetchCount()) :]
    return RankReport(first_position, last_position, valid, stop, FetchCount(*fetch), CacheCount(*cached))


class LogLines:
    """One JSON line a step, on rank 0; the driver sees each at once, the file is written with every checkpoint.

    A checkpoint and the log up to it belong together: after a crash, steps past the checkpoint are trained again and
    logged again, so the file tells the story of the weights and of nothing else.

    Args:
        url: of the file.
        agreement: knows every rank's positions.
        monitor: takes the records; answers whether to stop.
        first_step: where this attempt begins; lines of earlier attempts from there on are dropped.
    """

    def __init__(self, url: str, agreement: Agreement, monitor: Any, first_step: int) -> None:
        self._url = url
        self._agreement = agreement
        self._monitor = monitor
        self._lines = _lines_before(url, first_step)
        self._answers: list[Any] = []
        self.stop_asked = False
        """Whether the driver wants training to stop."""

    def after_step(self, record: StepRecord, state: State) -> bool:
        """See `Callback`."""
        ranks = self._agreement.reports
        positions = [[report.first_position, report.last_position] for report in ranks]
        plain = asdict(record)
        fetch = sum_counts(report.fetch for report in ranks)._asdict()
        valid = sum(report.valid for report in ranks)
        cached = CacheCount(*map(sum, zip(*(report.teacher_cache for report in ranks), strict=True)))
        told = {"teacher_cache": cached._asdict()} if any(cached) else {}
        self._lines.append(json.dumps(plain | {"positions": positions, "valid": valid, "fetch": fetch} | told))
        self._answers.append(self._monitor.record.remote(plain))
        ready, self._answers = ray.wait(self._answers, num_returns=len(self._answers), timeout=0)
        self.stop_asked |= any(ray.get(ready))
        return False

    def flush(self) -> None:
        """Write the file."""
        write_bytes(self._url, "".join(f"{line}\n" for line in self._lines).encode())


class CheckpointEvery:
    """Writes the state every so many steps, at the plan's end, before a preemption and before a node leaves.

    Args:
        store: where to.
        every_steps: how often.
        agreement: knows of preemption.
        meta: what stands beside the state.
        stopwatch: takes the time spent here; its split stands beside the state.
        log: rank 0's log, written first: it never ends before the checkpoint does. None on other ranks, which only
            take part in gathering the state.
    """

    def __init__(
        self,
        store: CheckpointStore,
        every_steps: int,
        agreement: Agreement,
        meta: dict[str, Any],
        stopwatch: Stopwatch,
        log: LogLines | None,
    ) -> None:
        self._store = store
        self._every_steps = every_steps
        self._agreement = agreement
        self._meta = meta
        self._stopwatch = stopwatch
        self._log = log

    def after_step(self, record: StepRecord, state: State) -> bool:
        """See `Callback`."""
        taken = record.step + 1
        due = taken % self._every_steps == 0 or taken == record.total_steps
        if due or self._agreement.node_leaves or self._agreement.stop == PREEMPTED:
            started = time.monotonic()
            full = state()
            if self._log is not None:
                self._log.flush()
                seconds = self._stopwatch.split()._asdict()
                self._store.save(full, self._meta | {"seconds": seconds, "losses": record.losses})
            self._stopwatch.checkpoint_s += time.monotonic() - started
        return False


class Preemption:
    """Ends the loop on all ranks at once, when one was told to stop or met one bad video too many. Comes last."""

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement

    def after_step(self, record: StepRecord, state: State) -> bool:
        """See `Callback`."""
        return self._agreement.stop != GO_ON


def _lines_before(url: str, first_step: int) -> list[str]:
    return [line for line in read_text(url).splitlines() if json.loads(line)["step"] < first_step] if first_step else []
