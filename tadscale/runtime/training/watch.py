"""What the driver does beside a training: it hands the job's stop to the workers, and their records to whoever keeps them.

Two threads, so that a record that cannot be kept delays no stop.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import ray

from tadscale.engine.loop import StepRecord
from tadscale.runtime.cluster.stopping import GRACE_S, StopToken

POLL_S = 0.5
LAST_RECORDS_S = 30.0
"""How long the end of a stage waits for its last records to be kept; the log file has them in any case."""

log = logging.getLogger(__name__)
OnRecord = Callable[[StepRecord], None]


@contextmanager
def watching(monitor: Any, stop: StopToken, on_record: OnRecord | None) -> Iterator[None]:
    """While the block runs, ask training to stop when the job is told to, and hand every record to `on_record`."""
    records: SimpleQueue[StepRecord | None] = SimpleQueue()
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(monitor, stop, records, over), name="training", daemon=True)
    keeper = threading.Thread(target=_keep, args=(records, on_record), name="training records", daemon=True)
    watcher.start()
    keeper.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        keeper.join(LAST_RECORDS_S)


def _watch(monitor: Any, stop: StopToken, records: "SimpleQueue[StepRecord | None]", over: threading.Event) -> None:
    asked_at: float | None = None
    taken = 0
    last = False
    while not last:
        last = over.wait(POLL_S)
        if stop.asked and asked_at is None:
            monitor.stop.remote()
            asked_at = time.monotonic()
            log.warning("told to stop: the workers finish their step and write a checkpoint; Ctrl-C leaves without it")
        if asked_at is not None and time.monotonic() > asked_at + GRACE_S and not last:
            log.warning("training did not stop within %.0f s and is left; its last checkpoint stays", GRACE_S)
            stop.insist()
            asked_at = float("inf")
        try:
            for record in ray.get(monitor.since.remote(taken), timeout=POLL_S + LAST_RECORDS_S):
                records.put(StepRecord(**record))
                taken += 1
        except ray.exceptions.RayError as error:  # the workers talk to the same actor, and fail with a better message
            log.warning("no records of this training for now: %s", str(error).splitlines()[0])
    records.put(None)


def _keep(records: "SimpleQueue[StepRecord | None]", on_record: OnRecord | None) -> None:
    failed = False
    while (record := records.get()) is not None:
        try:
            if on_record is not None:
                on_record(record)
        except Exception:  # of whoever keeps records: no reason to end a training
            if not failed:
                log.exception("a record of step %d could not be kept; training goes on", record.step)
            failed = True
