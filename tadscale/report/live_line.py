"""A line that changes in place where somebody can see that, and how far a command is that goes through many things."""

import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

LINE_EVERY_S = 10.0  # where nobody can see a line change in place: log files, `ray job submit`


class LiveLine:
    """One line on a console: it changes in place on a terminal, and elsewhere comes again every ten seconds.

    Args:
        console: where.
        patient: where it comes again, whether the first one waits as long: what is quick then says nothing.
    """

    def __init__(self, console: Console, *, patient: bool = False) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._printed_at = time.monotonic() if patient else float("-inf")

    def start(self, line: str) -> None:
        """On a terminal, begin with this."""
        if self._live:
            self._live.start()
            self._live.update(Text(line))

    def show(self, line: str) -> None:
        """Change to this; may be called from another thread."""
        if self._live:
            self._live.update(Text(line))
        elif time.monotonic() - self._printed_at >= LINE_EVERY_S:
            self._printed_at = time.monotonic()
            self.leave(line)

    def stop(self) -> None:
        """On a terminal, take it away."""
        if self._live:
            self._live.stop()

    def leave(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, markup=False, highlight=False)


class CountProgress:
    """Shows how far something is that is gone through one after the other, as `tadscale.data.watched.Watch`.

    Args:
        what: the first word of the line.
        unit: what is counted, such as `videos`.
        console: where; not where results go.
    """

    def __init__(self, what: str, unit: str, console: Console) -> None:
        self._what, self._unit, self._line = what, unit, LiveLine(console, patient=True)
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._line.start(f"{self._what:<10} starting")
        return self

    def __exit__(self, *_: object) -> None:
        self._line.stop()

    def __call__(self, done: int, total: int) -> None:
        """So many are done, of so many."""
        left_s = (time.monotonic() - self._started) / done * (total - done)
        self._line.show(f"{self._what:<10} {done:,}/{total:,} {self._unit}  ETA {format_duration(left_s)}")


def format_duration(seconds: float) -> str:
    """`75` to `1:15`, `3700` to `1:01:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
