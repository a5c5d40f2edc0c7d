"""What the driver and the training workers tell each other: records, bad videos, "stop", and how it ended."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tadscale.data.quarantine import QuarantineBudget, QuarantineEntry, QuarantineExceeded, QuarantineLedger
from tadscale.data.storage import read_text, write_bytes
from tadscale.runtime.pipeline.packets import PacketLayout
from tadscale.runtime.stage.stopwatch import TimeSplit
from tadscale.runtime.tracking.prometheus import gauge
from tadscale.runtime.training.failed import Final

Record = dict[str, Any]
"""A `StepRecord` as plain data: the monitor's process has no torch to unpack the class with."""


class Outcome(NamedTuple):
    """How the training workers ended, when they ended by themselves."""

    reason: Literal["finished", "preempted", "over budget"]
    step: int
    losses: dict[str, float]
    seconds: TimeSplit


class Summary(NamedTuple):
    """What the monitor knows when training is over."""

    outcome: Outcome | None
    restarts: int
    quarantined: int
    over_budget: str | None
    """The message for the user, when too many videos are bad."""
    final: Final | None = None
    """What a rank ended of, if another attempt would end of it, too."""


class Monitor:
    """An actor on the driver's node: it outlives the worker groups.

    Args:
        ledger_url: where the quarantine ledger is kept; what an earlier part of the run wrote is taken up.
        budget: how many bad videos are borne.
        videos: size of the data set.
        run: name of the job, for Prometheus.
        stage: what is trained, likewise.
    """

    def __init__(self, ledger_url: str, budget: QuarantineBudget, videos: int, run: str = "", stage: str = "") -> None:
        self._url = ledger_url
        self._ledger = QuarantineLedger(budget)
        self._ledger.load_jsonl(read_text(self._url))
        self._ledger.total_videos = videos  # from here on, an entry over the budget is refused
        self._over_budget: str | None = None
        self._check(videos)  # what is known already is refused by no `add`
        self._quarantined = gauge("tadscale_quarantined_videos", run=run, stage=stage)
        self._write_ledger()
        self._records: list[Record] = []  # that nobody said to have yet
        self._taken = 0
        self._starts: list[PacketLayout] = []
        self._stop = False
        self._outcome: Outcome | None = None
        self._final: Final | None = None

    def started(self, layout: PacketLayout) -> None:
        """A worker group begins, at the first step of `layout`."""
        self._starts.append(layout)

    def layout(self) -> PacketLayout:
        """The layout that the current worker group began with."""
        return self._starts[-1]

    def record(self, record: Record) -> bool:
        """Take a step's record, and add to its `data` what is known here; answers whether training should stop after it."""
        known = {"quarantined_videos": float(len(self._ledger))}
        self._records.append(record | {"data": record.get("data", {}) | known})
        return self._stop

    def quarantine(self, entries: Sequence[QuarantineEntry]) -> bool:
        """Take bad videos; answers whether the budget is spent."""
        known = len(self._ledger)
        try:
            for entry in entries:
                self._ledger.add(entry)
        except QuarantineExceeded as error:
            self._over_budget = str(error)
        if len(self._ledger) > known:
            self._write_ledger()
        return self._over_budget is not None

    def finished(self, outcome: Outcome) -> None:
        """The worker group ended by itself."""
        self._outcome = outcome

    def failed(self, final: Final) -> None:
        """A rank ended of what another attempt would not change; the first of them counts."""
        self._final = self._final or final

    def stop(self) -> None:
        """Ask training to stop after the current step, with a checkpoint."""
        self._stop = True

    def since(self, taken: int) -> list[Record]:
        """The records after the first `taken` ones, which the caller has: they are given up here, and no others, for an
        answer may be lost."""
        del self._records[: taken - self._taken]
        self._taken = taken
        return self._records

    def summary(self) -> Summary:
        """What is known now."""
        restarts = max(0, len(self._starts) - 1)
        return Summary(self._outcome, restarts, len(self._ledger), self._over_budget, self._final)

    def _check(self, videos: int) -> None:
        try:
            self._ledger.check(videos)
        except QuarantineExceeded as error:
            mended = f"An earlier attempt found them. If they were mended in place since, delete {self._url}"
            self._over_budget = f"{error}\n{mended}"

    def _write_ledger(self) -> None:
        self._quarantined.set(len(self._ledger))
        write_bytes(self._url, self._ledger.to_jsonl().encode())


def start_monitor(
    ledger_url: str, budget: QuarantineBudget, videos: int, run: str = "", stage: str = ""
) -> tuple[str, Any]:
    """Start the actor; returns the name by which workers find it, and the handle that keeps it alive.

    Raises:
        QuarantineExceeded: what earlier attempts entered in the ledger is more than the budget allows.
    """
    name = f"tadscale-monitor-{uuid4()}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor_class = ray.remote(num_cpus=0)(Monitor).options(name=name, scheduling_strategy=here)
    actor = actor_class.remote(ledger_url, budget, videos, run, stage)
    summary: Summary = ray.get(actor.summary.remote())  # an error in its start is raised here
    if summary.over_budget is not None:  # or each attempt would bear one bad video more, until all are known
        ray.kill(actor)
        raise QuarantineExceeded(summary.over_budget)
    return name, actor
