"""Where a training worker's time goes."""

import time
from typing import NamedTuple


class TimeSplit(NamedTuple):
    """Where rank 0's time went, seconds; attempts that a checkpoint continues are counted in."""

    train_s: float = 0.0
    data_wait_s: float = 0.0
    checkpoint_s: float = 0.0
    """Training paused: for a copy of the state, and for the write before where that was not over."""
    checkpoint_background_s: float = 0.0
    """Checkpoints were written beside the training; in the other three already. Missing in those of earlier versions."""

    @property
    def total_s(self) -> float:
        """All of rank 0's time."""
        return self.train_s + self.data_wait_s + self.checkpoint_s


class Stopwatch:
    """Splits the time since its making; when training neither waits nor pauses, it trains.

    Args:
        past: what earlier attempts spent.
    """

    def __init__(self, past: TimeSplit) -> None:
        self._past = past
        self._started = time.monotonic()
        self.data_wait_s = 0.0
        self.checkpoint_s = 0.0
        self.checkpoint_background_s = 0.0
        """Of the thread that writes, beside the others."""

    def split(self) -> TimeSplit:
        """The time of this attempt and of those before it."""
        train_s = time.monotonic() - self._started - self.data_wait_s - self.checkpoint_s
        now = TimeSplit(train_s, self.data_wait_s, self.checkpoint_s, self.checkpoint_background_s)
        return TimeSplit(*(before + since for before, since in zip(self._past, now, strict=True)))
