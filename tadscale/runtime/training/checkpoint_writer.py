"""Checkpoints written beside the training: the step pays for a copy in host memory, a thread does the rest."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self

from tadscale.engine.engine import TrainState
from tadscale.runtime.stage.stopwatch import Stopwatch
from tadscale.runtime.training.checkpoints import CheckpointStore
from tadscale.runtime.training.stage_log import Parts

log = logging.getLogger(__name__)


class GrowingLog(Protocol):
    """The log that belongs to the checkpoints."""

    def take(self) -> Parts:
        """What is to be written for a checkpoint of now."""
        ...

    def write(self, parts: Parts) -> None:
        """Write it."""
        ...


class CheckpointWriter:
    """Writes rank 0's checkpoints in one thread: one at a time, in the order in which they were given.

    Leaving its `with` block waits for the write under way, whatever the block ends with; a write that failed then is
    raised, or logged where another error is on its way already.

    Args:
        store: where to.
        lines: the log up to each checkpoint, written before it: the log never ends before the checkpoint does.
        meta: what stands beside every state.
        stopwatch: its split stands beside the state, too; takes the seconds of the thread.
    """

    def __init__(
        self, store: CheckpointStore, lines: GrowingLog, meta: Mapping[str, Any], stopwatch: Stopwatch
    ) -> None:
        self._store = store
        self._lines = lines
        self._meta = dict(meta)
        self._stopwatch = stopwatch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None

    def write(self, state: TrainState, losses: Mapping[str, float]) -> None:
        """Begin to write a state, when the one before is written; returns as soon as the state is in host memory.

        Args:
            state: tensors that nobody changes any more; those on a device are copied from it.
            losses: of its last step.

        Raises:
            What the write before raised.
        """
        self.wait()
        on_host = TrainState(step=state.step, tensors={name: value.cpu() for name, value in state.tensors.items()})
        meta = self._meta | {"seconds": self._stopwatch.split()._asdict(), "losses": dict(losses)}
        self._under_way = self._thread.submit(self._write, on_host, self._lines.take(), meta)

    def check(self) -> None:
        """Raise what a write that is over raised; does not wait."""
        if self._under_way is not None and self._under_way.done():
            self.wait()

    def wait(self) -> None:
        """Return when nothing is under way. Raises what the write raised: `Diverged`, `StorageError`."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _write(self, state: TrainState, lines: Parts, meta: Mapping[str, Any]) -> None:
        started = time.monotonic()
        self._lines.write(lines)
        self._store.save(state, meta)
        self._stopwatch.checkpoint_background_s += time.monotonic() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception:
            if error is None:
                raise
            log.exception("the checkpoint under way could not be written")
        finally:
            self._thread.shutdown()
