"""How fast training goes: of late, and on the whole."""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

RECENT_STEPS = 50
"""What counts as of late. A first step of a minute (compiling, filling the pipeline) is forgotten after 50 others, and not
when the run ends; a checkpoint every 100 steps still weighs in half of the windows."""


Fetched = TypeVar("Fetched")


class Rates(NamedTuple):
    """What a log line says of speed."""

    windows_per_s: float
    """Over the last `RECENT_STEPS` steps, or those that there were."""
    mean_windows_per_s: float
    """Since this process began to train."""
    data_wait_share: float
    """Share of the recent time in which the step waited for its batch."""
    step_s: float
    """Recent seconds a step, for an estimate of what is left."""


class Pace:
    """Takes the time of steps.

    Args:
        global_batch: windows of a step.
        clock: seconds from anywhere.
    """

    def __init__(self, global_batch: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._global_batch = global_batch
        self._clock = clock
        self._waited_s, self._steps, self._started_s = 0.0, 0, clock()
        self._marks = deque([(self._started_s, 0.0)], maxlen=RECENT_STEPS + 1)  # when a step ended; waited until then

    def wait(self, fetch: Callable[[], Fetched]) -> Fetched:
        """Fetch something; the time counts as waited."""
        asked_s = self._clock()
        fetched = fetch()
        self._waited_s += self._clock() - asked_s
        return fetched

    def step(self) -> Rates:
        """A step has ended."""
        now_s = self._clock()
        self._steps += 1
        self._marks.append((now_s, self._waited_s))
        (first_s, waited_s), steps = self._marks[0], len(self._marks) - 1
        recent_s, whole_s = (max(now_s - since_s, 1e-9) for since_s in (first_s, self._started_s))
        return Rates(
            windows_per_s=steps * self._global_batch / recent_s,
            mean_windows_per_s=self._steps * self._global_batch / whole_s,
            data_wait_share=min((self._waited_s - waited_s) / recent_s, 1.0),
            step_s=recent_s / steps,
        )
