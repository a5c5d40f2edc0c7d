"""One live line a stage: where it stands, how fast it is, and what it waits for."""

import logging
import time
from collections import defaultdict
from types import TracebackType
from typing import Self

from rich.console import Console

from tadscale.engine.loop import StepRecord
from tadscale.report.live_line import LiveLine, format_duration

WAITS = 0.05  # share of the time that training waits for data, from which on it is said what a window takes
LOGGED_EVERY_S = 60.0

log = logging.getLogger(__name__)


class StageProgress:
    """Shows a stage's records: in place on a terminal, else as a line every ten seconds; logs one a minute."""

    def __init__(self, stage: str, console: Console) -> None:
        self._stage, self._line = stage, LiveLine(console)
        self._last: StepRecord | None = None
        self._logged_at = float("-inf")
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._line.start(f"{self._stage:<10} starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.stop()
        if self._last is not None:
            took = format_duration(time.monotonic() - self._started)
            ending = f"stopped after {took}" if error else f"done in {took}"
            line = f"{format_record(self._stage, self._last)}  {ending}"
            self._line.leave(line)
            log.info("%s", line)

    def show(self, record: StepRecord) -> None:
        """Take in one step; may be called from another thread."""
        self._last = record
        line = format_record(self._stage, record)
        self._line.show(line)
        if time.monotonic() - self._logged_at >= LOGGED_EVERY_S:
            self._logged_at = time.monotonic()
            log.info("%s", line)


def format_record(stage: str, record: StepRecord) -> str:
    """A record as one line of at most about 150 characters, and more where something is not as it should be. Speed and time
    left are of late, the mean stands beside."""
    gpu = f" + GPU {record.gpu_memory_mib:.0f} MiB" if record.gpu_memory_mib else ""
    return (
        f"{stage:<10} step {record.step + 1}/{record.total_steps}  loss {record.losses['loss']:.3f}  lr {record.lr:.1e}  "
        f"{record.windows_per_s:.1f} windows/s (mean {record.mean_windows_per_s:.1f})  "
        f"{format_data(record)}  {record.memory_mib:.0f} MiB{gpu}  "
        f"ETA {format_duration(record.eta_s)}"
    )


def format_data(record: StepRecord) -> str:
    """What is to be known of the data: how long they are waited for, how fast they come, and what went wrong with them.

    How long a window takes is said where training waits; caches, repeated requests and bad videos where there are any.
    """
    data = defaultdict(float, record.data)
    parts = [f"data wait {record.data_wait_share:.0%}"]
    if data["window_p95_s"] and record.data_wait_share >= WAITS:
        load, motion = (f"{data[f'{part}_wait_share']:.0%} {part}" for part in ("load", "motion"))
        parts[0] += f" ({load}, {motion}; window p50 {data['window_p50_s']:.2f} s, p95 {data['window_p95_s']:.2f} s)"
    if data["decoded_frames_per_s"]:
        parts.append(f"{data['decoded_frames_per_s']:.0f} frames/s")
    if data["fetched_bytes_per_s"]:
        parts.append(f"{data['fetched_bytes_per_s'] / 1e6:.1f} MB/s")
    if data["cached_share"]:
        parts.append(f"{data['cached_share']:.0%} cached")
    if data["retries"]:
        parts.append(f"{data['retries']:.0f} retries")
    if data["quarantined_videos"]:
        parts.append(f"{data['quarantined_videos']:.0f} bad videos")
    return ", ".join(parts)
