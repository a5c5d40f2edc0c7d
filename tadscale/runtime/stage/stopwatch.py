"""Where a training worker's time goes."""

import time
from typing import NamedTuple


class TimeSplit(NamedTuple):
    """Where rank 0's time went, seconds; attempts that a checkpoint continues are counted in."""

    train_s: float = 0.0
    data_wait_s: float = 0.0
    checkpoint_s: float = 0.0


class Stopwatch:
    """Splits the time since its making; what is neither waited for nor written is trained.

    Args:
        past: what earlier attempts spent.
    """

    def __init__(self, past: TimeSplit) -> None:
        self._past = past
        self._started = time.monotonic()
        self.data_wait_s = 0.0
        self.checkpoint_s = 0.0

    def split(self) -> TimeSplit:
        """The time of this attempt and of those before it."""
        train_s = time.monotonic() - self._started - self.data_wait_s - self.checkpoint_s
        now = TimeSplit(train_s, self.data_wait_s, self.checkpoint_s)
        return TimeSplit(*(before + since for before, since in zip(self._past, now, strict=True)))
