"""A job that is told to stop: one token for all of it, from its first second to its last.

SIGTERM and Ctrl-C raise `Preempted` where the main thread is: whatever it waits for, a dead server too, is left at once.
While a stage trains they are a request first, which the workers answer with a checkpoint; Ctrl-C after that does not wait.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_S = 60.0
"""How long training may take to answer with a checkpoint, before it is left where it is."""


class Preempted(KeyboardInterrupt):
    """The job was told to stop; the same command goes on from what it has finished, and from its last checkpoint.

    Not an `Exception`: libraries that bear or repeat any failure would go on. And Ray, waiting in C++, lets nothing of a
    signal's handler through but `KeyboardInterrupt`, as a new one of that very type.
    """


class StopToken:
    """Whether the job was told to stop."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._requests_only = False
        self.by_hand = False
        """Whether it was Ctrl-C."""

    @property
    def asked(self) -> bool:
        """Whether SIGTERM or Ctrl-C came."""
        return self._asked.is_set()

    @contextmanager
    def listening(self) -> Iterator["StopToken"]:
        """Answer SIGTERM and Ctrl-C while the block runs. Only a main thread can listen; in another one nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        if before[signal.SIGINT] == signal.SIG_IGN:  # a script's background process: Ctrl-C is not meant for it
            del before[signal.SIGINT]
        for number in before:
            signal.signal(number, self._on_signal)
        try:
            yield self
        except KeyboardInterrupt as interrupt:
            if not isinstance(interrupt, Preempted):
                self.check()
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def as_request(self) -> Iterator[None]:
        """While the block runs a signal is only noted, for somebody who asks; what was noted is raised at its end."""
        self.check()
        self._requests_only = True
        try:
            yield
        finally:
            self._requests_only = False
        self.check()

    def check(self) -> None:
        """Raise `Preempted` if the job was told to stop."""
        if self.asked:
            raise Preempted("told to stop; the same command goes on from what is finished and from the last checkpoint")

    def insist(self) -> None:
        """Leave a block that does not answer to requests, from another thread."""
        self._requests_only = False
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT and self.asked
        self.by_hand |= number == signal.SIGINT
        self._asked.set()
        if again or not self._requests_only:
            self.check()


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Put back the handlers of SIGTERM and SIGINT that the block replaces, if they were Python's.

    `ray.init` gives SIGTERM to a C++ handler that ends the process by abort, behind Python's back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
