"""A rank's batches on their way from the pipeline into the loop."""

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray

from tadscale.data.blocks import FetchCount
from tadscale.data.quarantine import QuarantineEntry
from tadscale.engine.batch import WindowBatch
from tadscale.runtime.pipeline.packets import Columns
from tadscale.runtime.pipeline.teacher_cache import CacheCount
from tadscale.runtime.stage.stopwatch import Stopwatch

NOT_ASKED = np.zeros((1, len(CacheCount())), np.int64)  # where no cache is


class RankBatches(Iterator[WindowBatch]):
    """Hands batches to the loop; keeps account of the time spent waiting, of positions, of what was fetched, and of bad
    videos.

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
        self.teacher_cache = CacheCount()
        """What became of its windows in the cache of what the teacher says, where there is one."""
        self.over_budget = False
        """Whether this rank's latest bad video was one too many."""

    def __next__(self) -> WindowBatch:
        asked = time.monotonic()
        columns = next(self._columns)
        self._stopwatch.data_wait_s += time.monotonic() - asked
        errors = columns.pop("error")
        self.positions = int(columns["position"][0]), int(columns["position"][-1])
        self.valid = int(columns["valid"].sum())
        self.fetch = FetchCount(*columns.pop("fetch").sum(0).tolist())
        self.teacher_cache = CacheCount(*columns.pop("teacher_cache", NOT_ASKED).sum(0).tolist())
        self._quarantine([QuarantineEntry(**json.loads(error)) for error in errors.tolist() if error])
        return WindowBatch.from_numpy(columns, self._device)

    def _quarantine(self, entries: list[QuarantineEntry]) -> None:
        if entries:
            self.over_budget |= ray.get(self._monitor.quarantine.remote(entries))
