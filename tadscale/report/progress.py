"""One live line a stage: where it stands, how fast it is, and what it waits for."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tadscale.engine.loop import StepRecord

LINE_EVERY_S = 10.0  # where nobody can see a line change in place: log files, `ray job submit`


class StageProgress:
    """Shows a stage's records: in place on a terminal, as a line every ten seconds in a log."""

    def __init__(self, stage: str, console: Console) -> None:
        self._stage, self._console = stage, console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._last: StepRecord | None = None
        self._printed_at = float("-inf")
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
            self._live.update(Text(f"{self._stage:<10} starting"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        if self._last is not None:
            took = format_duration(time.monotonic() - self._started)
            ending = f"stopped after {took}" if error else f"done in {took}"
            self._print(f"{format_record(self._stage, self._last)}  {ending}")

    def show(self, record: StepRecord) -> None:
        """Take in one step; may be called from another thread."""
        self._last = record
        line = format_record(self._stage, record)
        if self._live:
            self._live.update(Text(line))
        elif time.monotonic() - self._printed_at >= LINE_EVERY_S:
            self._printed_at = time.monotonic()
            self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)


def format_record(stage: str, record: StepRecord) -> str:
    """A record as one line of at most about 130 characters. Speed and time left are of late, the mean stands beside."""
    gpu = f" + GPU {record.gpu_memory_mib:.0f} MiB" if record.gpu_memory_mib else ""
    return (
        f"{stage:<10} step {record.step + 1}/{record.total_steps}  loss {record.losses['loss']:.3f}  lr {record.lr:.1e}  "
        f"{record.windows_per_s:.1f} windows/s (mean {record.mean_windows_per_s:.1f})  "
        f"data wait {record.data_wait_share:.0%}  {record.memory_mib:.0f} MiB{gpu}  "
        f"ETA {format_duration(record.eta_s)}"
    )


def format_duration(seconds: float) -> str:
    """`75` to `1:15`, `3700` to `1:01:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
