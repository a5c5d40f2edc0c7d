"""What the data plane did of late: how fast it read and decoded, what it remembered, what a window took."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.blocks import FetchCount, sum_counts
from tadscale.engine.pace import RECENT_STEPS
from tadscale.runtime.training.batches import Waited
from tadscale.runtime.training.rank_report import RankReport


class _Step(NamedTuple):
    """A step of all ranks: what 64 of them say is not summed 50 times over."""

    ended_s: float
    fetch: FetchCount = FetchCount()
    windows: int = 0
    waited_us: Waited = Waited()
    times_us: NDArray[np.int64] = np.zeros((0, 2), np.int64)

    @classmethod
    def of(cls, ended_s: float, reports: Sequence[RankReport]) -> "_Step":
        return cls(
            ended_s,
            sum_counts(report.fetch for report in reports),
            sum(report.valid for report in reports),
            reports[0].waited_us,
            np.concatenate([report.times_us for report in reports]),
        )


class DataRates:
    """Figures of all ranks together, over the steps that `Pace` takes for recent.

    Seconds a window are spent in threads, tasks and actors that run beside each other: training waits for less.

    Args:
        clock: seconds from anywhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._retries = 0
        # What led to the first of them is not looked at.
        self._steps = deque([_Step(clock())], maxlen=RECENT_STEPS + 1)

    def step(self, reports: Sequence[RankReport]) -> dict[str, float]:
        """A step has ended, of which every rank reports; returns what is published of it and of those before.

        - `decoded_frames_per_s`; `fetched_bytes_per_s`, from storage; `retries`, requests to it that were made again, since
          this process began.
        - `cached_share` of the bytes came from a node's disk; `remembered_share` of the windows were decoded before.
        - `load_wait_share` and `motion_wait_share` of the time rank 0 waited for a batch that was not decoded, or was and
          had no motion yet: parts of `data_wait_share`, which is rank 0's, too. The rest of that is handing over.
        - `load_s_per_window`, to fetch and decode, and `motion_s_per_window`: means, what was remembered counts 0.
        - `window_p50_s` and `window_p95_s`: both together, of the windows for which anything was done; 0 if of none.
        """
        self._steps.append(_Step.of(self._clock(), reports))
        begin, *recent = self._steps
        seconds = max(recent[-1].ended_s - begin.ended_s, 1e-9)
        total, windows = sum_counts(step.fetch for step in recent), sum(step.windows for step in recent)
        self._retries += recent[-1].fetch.retries
        waited_s = np.sum([step.waited_us for step in recent], axis=0) / 1e6  # [2]
        times_s = np.concatenate([step.times_us for step in recent]) / 1e6  # [N, 2]
        return {
            "decoded_frames_per_s": total.frames / seconds,
            "fetched_bytes_per_s": total.fetched / seconds,
            "retries": float(self._retries),
            "cached_share": total.cached / max(total.fetched + total.cached, 1),
            "remembered_share": (windows - np.count_nonzero(times_s[:, 0])) / max(windows, 1),
            **_named(waited_s / seconds, "load_wait_share", "motion_wait_share"),
            **_named(times_s.sum(0) / max(windows, 1), "load_s_per_window", "motion_s_per_window"),
            **_named(_percentiles(times_s.sum(1)), "window_p50_s", "window_p95_s"),
        }


def _named(values: NDArray[np.float64], *names: str) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _percentiles(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[2]`, the median and the 95th, of what took any time."""
    return np.percentile(times_s[times_s > 0] if times_s.any() else [0.0], [50, 95])
