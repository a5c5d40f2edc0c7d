"""A rank's batches on their way from the pipeline into the loop."""

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import ray

from tadscale.data.blocks import FetchCount
from tadscale.data.quarantine import QuarantineEntry
from tadscale.engine.batch import WindowBatch
from tadscale.runtime.pipeline.packets import Columns
from tadscale.runtime.pipeline.teacher_cache import CacheCount
from tadscale.runtime.stage.stopwatch import Stopwatch

NOT_ASKED = np.zeros((1, len(CacheCount())), np.int64)  # where no cache is
LOAD_US = FetchCount._fields.index("load_us")


class Waited(NamedTuple):
    """Microseconds of a wait for a batch; what is left of the wait is handing over."""

    load: int = 0
    """A window of it was not yet fetched and decoded."""
    motion: int = 0
    """All were, and the motion of one was not yet there."""

    @classmethod
    def split(cls, asked_s: float, got_s: float, loaded_s: float, motion_s: float) -> "Waited":
        """Of a wait from one time to another, by when all was decoded and when all motion was there, in seconds of one
        clock. Clocks of nodes differ a little: nothing outside the wait counts."""
        loaded_s, motion_s = (min(max(time_s, asked_s), got_s) for time_s in (loaded_s, motion_s))
        return cls(round((loaded_s - asked_s) * 1e6), round(max(motion_s - loaded_s, 0) * 1e6))


class RankBatches(Iterator[WindowBatch]):
    """Hands batches to the loop; keeps account of the time spent waiting, of positions, of what was fetched and what that
    took, and of bad videos.

    Args:
        columns: the batches, as `batch_columns` gives them.
        device: where they go.
        monitor: takes the entries for the quarantine ledger.
        stopwatch: takes the time spent waiting.
    """

    def __init__(self, columns: Iterator[Columns], device: str, monitor: Any, stopwatch: Stopwatch) -> None:
        self._columns = columns
        self._device = device
        self._monitor = monitor
        self._stopwatch = stopwatch
        self.positions = (-1, -1)
        """First and last of the latest batch."""
        self.valid = 0
        """Windows of the latest batch that are trained on."""
        self.fetch = FetchCount()
        """What it took to have the latest batch."""
        self.waited_us = Waited()
        """For what it was waited."""
        self.times_us = np.zeros((0, 2), np.int64)
        """`[B, 2]` microseconds that each of its windows took to be fetched and decoded, and that its motion took: 0 where
        nothing was done, and where the window is not trained on."""
        self.teacher_cache = CacheCount()
        """What became of its windows in the cache of what the teacher says, where there is one."""
        self.over_budget = False
        """Whether a bad video of this rank was one too many."""

    def __next__(self) -> WindowBatch:
        asked, asked_unix_s = time.monotonic(), time.time()
        columns = next(self._columns)
        waited_s = time.monotonic() - asked
        self._stopwatch.data_wait_s += waited_s
        loaded = columns.pop("loaded_unix_s")
        times_s = loaded.max(), columns.pop("motion_unix_s", loaded).max()
        self.waited_us = Waited.split(asked_unix_s, asked_unix_s + waited_s, *times_s)
        errors = columns.pop("error")
        self.positions = int(columns["position"][0]), int(columns["position"][-1])
        self.valid = int(columns["valid"].sum())
        fetch = columns.pop("fetch")  # [B, 8]
        self.fetch = FetchCount(*fetch.sum(0).tolist())
        motion_us = columns.pop("motion_us", np.zeros(len(fetch), np.int64))
        self.times_us = np.stack([fetch[:, LOAD_US], motion_us], 1) * columns["valid"][:, None]
        self.teacher_cache = CacheCount(*columns.pop("teacher_cache", NOT_ASKED).sum(0).tolist())
        self._quarantine([QuarantineEntry(**json.loads(error)) for error in errors.tolist() if error])
        return WindowBatch.from_numpy(columns, self._device)

    def _quarantine(self, entries: list[QuarantineEntry]) -> None:
        if entries:
            self.over_budget |= ray.get(self._monitor.quarantine.remote(entries))
