"""What a job says in words, kept beside its results: a file a process, in the run's folder `logs`.

Pods go, and what they printed goes with them; a job's storage stays. Every process that a job trains in keeps a journal of
its own: the driver from when it has the job's lease, a training worker once it has something to say. `JournalReader` joins
them by time.
"""

import json
import logging
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from heapq import merge
from itertools import zip_longest
from types import TracebackType
from typing import NamedTuple, Self
from uuid import uuid4

from tadscale.data.faults import Retry
from tadscale.data.storage import join, list_names, read_text, write_bytes
from tadscale.errors import UserError
from tadscale.runtime.tracking.redact import redact_text

FOLDER, SUFFIX = "logs", ".jsonl"
FLUSH_S = 5.0
PART_LINES = 1000
"""Lines from which on a part is closed. Object stores cannot append: what grows is written anew, and that is one part."""
RETRY = Retry(attempts=2, total_s=10.0)  # a journal holds nobody up; what could not be written is tried again
PACKAGE = "tadscale"
DRIVER = "job"

log = logging.getLogger(__name__)


class Line(NamedTuple):
    """One thing that was said."""

    unix_s: float
    level: str
    """`INFO`, `WARNING`, `ERROR`."""
    who: str
    """`job`, or a stage's worker: `teacher rank 0`."""
    words: str
    """May hold line breaks."""
    ends: bool = False
    """Whether it is the last word of its process."""


class Journal(logging.Handler):
    """Keeps what a process logs while the block runs: this package's messages, warnings that reach Python's root logger, and
    how it ended.

    Written every few seconds by a thread. Storage that is away or full delays it and raises nothing. A process that is
    killed loses the last seconds.

    Args:
        run_url: the run's folder.
        who: see `Line`.
    """

    def __init__(self, run_url: str, who: str) -> None:
        super().__init__()
        self._who = who
        name = f"{time.time():010.0f}-{who.replace(' ', '-')}-{uuid4().hex[:8]}"
        self._stem = join(run_url, FOLDER, name)
        self._part = 0
        self._lines: list[Line] = []  # of the part that grows
        self._written = 0
        self._fails = False
        self._over = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="journal", daemon=True)

    def __enter__(self) -> Self:
        root, package = logging.getLogger(), logging.getLogger(PACKAGE)
        self._level_before = package.level
        package.setLevel(logging.INFO)
        # Python prints warnings by itself only where nobody handles them.
        self._printer = logging.lastResort if not root.handlers else None
        for handler in self._handlers():
            root.addHandler(handler)
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handler in self._handlers():
            logging.getLogger().removeHandler(handler)
        logging.getLogger(PACKAGE).setLevel(self._level_before)
        if error is not None or self._lines or self._part or self._who == DRIVER:
            self._add("ERROR" if isinstance(error, Exception) else "INFO", ending(error), ends=True)
        self._over.set()
        self._writer.join()

    def emit(self, record: logging.LogRecord) -> None:
        """Take in one message. A malformed one is reported as Python's own handlers do, and ends nothing."""
        try:
            if record.levelno >= logging.WARNING or record.name.partition(".")[0] == PACKAGE:
                self._add(record.levelname, self.format(record))
        except Exception:
            self.handleError(record)

    def _handlers(self) -> Iterator[logging.Handler]:
        yield self
        if self._printer is not None:
            yield self._printer

    def _add(self, level: str, words: str, *, ends: bool = False) -> None:
        line = Line(time.time(), level, self._who, redact_text(words), ends)
        with self.lock:  # type: ignore[union-attr]
            self._lines.append(line)

    def _write_on(self) -> None:
        while not self._over.wait(FLUSH_S):
            self._flush_part()
        self._flush_part()

    def _flush_part(self) -> None:
        with self.lock:  # type: ignore[union-attr]
            lines = list(self._lines)
        if len(lines) == self._written:
            return
        text = "".join(f"{json.dumps(line._asdict())}\n" for line in lines)
        try:
            write_bytes(f"{self._stem}-{self._part:04d}{SUFFIX}", text.encode(), retry=RETRY)
        except Exception as error:  # a full disk, too: nothing that is wrong with a journal ends its writer, or a job
            if not self._fails:
                log.warning("the job's journal cannot be written for now: %s", error)
            self._fails = True
            return
        self._written, self._fails = len(lines), False
        if len(lines) >= PART_LINES:
            with self.lock:  # type: ignore[union-attr]
                del self._lines[: len(lines)]
            self._part, self._written = self._part + 1, 0


def ending(error: BaseException | None) -> str:
    """How a process ended, in words: a fault of ours with its traceback, what a user is told without."""
    where = f"on {socket.gethostname()}"
    if error is None:
        return f"ended {where}"
    if isinstance(error, UserError | OSError) or not isinstance(error, Exception):
        return f"ended {where}: {type(error).__name__} {error}".rstrip()
    return f"ended {where}: {''.join(traceback.format_exception(error)).rstrip()}"


class JournalReader:
    """Reads the journals of a run, again and again: each call yields what has come since the last."""

    def __init__(self, run_url: str) -> None:
        self._folder = join(run_url, FOLDER)
        self._read: dict[str, int] = {}
        """Lines by the file that they are of."""
        self._closed: set[str] = set()
        """Files that grow no more."""

    def new_lines(self) -> list[Line]:
        """By time, those of one process in the order in which they were said. Raises `StorageError`."""
        names = [name for name in list_names(self._folder) if name.endswith(SUFFIX)]  # and none half written
        found: list[list[Line]] = []
        for name, later in zip_longest(names, names[1:], fillvalue=""):
            if name in self._closed:
                continue
            lines = list(_lines(read_text(join(self._folder, name))))
            found.append(lines[self._read.get(name, 0) :])
            self._read[name] = len(lines)
            if any(line.ends for line in lines[-1:]) or _stem(name) == _stem(later):
                self._closed.add(name)
        # Merged and not sorted: a clock that is set back turns no process's words round.
        return list(merge(*found, key=lambda line: line.unix_s))


def _lines(text: str) -> Iterator[Line]:
    for line in text.splitlines():
        yield Line(**{name: value for name, value in json.loads(line).items() if name in Line._fields})


def _stem(name: str) -> str:
    return name.rpartition("-")[0]
