"""What each rank tells the others after a step, as numbers of a fixed length."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.blocks import FetchCount
from tadscale.runtime.pipeline.teacher_cache import CacheCount
from tadscale.runtime.training.batches import Waited

GO_ON, PREEMPTED, OVER_BUDGET = range(3)


class RankReport(NamedTuple):
    """One rank's step."""

    first_position: int
    last_position: int
    valid: int
    stop: int
    """`GO_ON`, `PREEMPTED` or `OVER_BUDGET`."""
    fetch: FetchCount = FetchCount()
    """What it took to have the rank's windows."""
    teacher_cache: CacheCount = CacheCount()
    """What became of them in the cache of what the teacher says."""
    waited_us: Waited = Waited()
    """For what the rank waited."""
    times_us: NDArray[np.int64] = np.zeros((0, 2), np.int64)
    """`[share, 2]` microseconds that each window took; see `RankBatches.times_us`."""

    def to_numbers(self) -> list[int]:
        """As it travels: of the same length on all ranks, for their share of a batch is the same."""
        return [*self[:4], *self.fetch, *self.teacher_cache, *self.waited_us, *self.times_us.ravel().tolist()]

    @classmethod
    def from_numbers(cls, numbers: Sequence[int]) -> "RankReport":
        """The inverse of `to_numbers`."""
        left = iter(numbers)

        def take(count: int) -> list[int]:
            return list(islice(left, count))

        first_position, last_position, valid, stop = take(4)
        return cls(
            first_position,
            last_position,
            valid,
            stop,
            FetchCount(*take(len(FetchCount()))),
            CacheCount(*take(len(CacheCount()))),
            Waited(*take(len(Waited()))),
            np.array(list(left), np.int64).reshape(-1, 2),
        )
