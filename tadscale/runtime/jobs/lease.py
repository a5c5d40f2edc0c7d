"""Who runs a job: a lease in its folder. A second start of the job is refused, and not trained into the first one's files.

Nobody's clock is compared: a holder writes a new beat every few seconds, and who finds a lease watches whether it beats.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from tadscale.config import Config
from tadscale.data.storage import StorageError, join, read_text, remove, write_bytes
from tadscale.errors import UserError
from tadscale.runtime.cluster.stopping import StopToken

LEASE_NAME = "lease.json"
BEAT_S = 10.0
EXPIRY_S = 45.0
"""A lease that did not beat for so long is of a dead process."""
SETTLE_S = 1.0
"""Two who take a lease at once: the later writer has it, and after this the earlier one knows."""

log = logging.getLogger(__name__)


class Holder(Config):
    """Who holds a lease."""

    token: str
    """Of this holding."""
    host: str
    """Name of the machine or pod."""
    pid: int
    """Process on it."""
    since_unix_s: float
    """When it was taken, by the holder's clock."""
    beat: int = 0
    """Grows while the holder lives."""
    processes: str = ""
    """Among which the number names it, see `process_space`; leases of earlier versions do not say."""

    @property
    def is_dead(self) -> bool:
        """Whether it can be told from here that the process is gone."""
        if not self.processes or self.processes != process_space():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


def process_space() -> str:
    """Which processes the numbers here are of: this boot of the machine and the PID namespace; empty where nothing says it.

    A host's name is not enough: containers on a machine's own network all have the same one, each with numbers of its own.
    """
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


class LeaseHeld(UserError):
    """The job runs already."""


@contextmanager
def leased(run_url: str, stop: StopToken) -> Iterator[None]:
    """Hold a run's lease while the block runs.

    Args:
        run_url: folder of the run.
        stop: told, if another process takes the lease over (this one was paused, or its storage away, for too long).

    Raises:
        LeaseHeld: somebody else runs this job.
        StorageError: the storage cannot be reached.
    """
    url = join(run_url, LEASE_NAME)
    here = {"host": socket.gethostname(), "pid": os.getpid(), "processes": process_space()}
    mine = Holder(token=uuid4().hex, since_unix_s=time.time(), **here)
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(url, mine, over, stop), name="lease", daemon=True)
    try:
        _take(url, mine)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()
    finally:
        _release(url, mine)  # of one who was told to stop while taking it, too


class LeaseWatch:
    """Looks on whether a run's driver lives, without wanting its lease.

    Args:
        run_url: folder of the run.
    """

    def __init__(self, run_url: str) -> None:
        self._url = join(run_url, LEASE_NAME)
        self._seen: Holder | None = None
        self._since = time.monotonic()

    def dead(self) -> Holder | None:
        """Who died with the lease, as far as can be told: it did not beat for `EXPIRY_S`, or its process is gone.

        None while it beats, and where there is no lease: a driver that ends gives it back.

        Raises:
            StorageError: the storage cannot be reached.
        """
        now = _read(self._url)
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        silent = time.monotonic() - self._since >= EXPIRY_S
        return now if now is not None and (silent or now.is_dead) else None


def _take(url: str, mine: Holder) -> None:
    held = _read(url)
    if held is not None and not held.is_dead:
        _wait_for_its_end(url, held)
    _write(url, mine)
    time.sleep(SETTLE_S)
    holder = _read(url)
    if holder is not None and holder.token != mine.token:
        raise _refusal(url, holder)


def _wait_for_its_end(url: str, held: Holder) -> None:
    """Return when the lease is given back, or did not beat for `EXPIRY_S`."""
    deadline = time.monotonic() + EXPIRY_S
    log.warning("%s is held by process %d on %s; looking whether it lives", url, held.pid, held.host)
    while time.monotonic() < deadline:
        time.sleep(min(1.0, EXPIRY_S / 10))
        now = _read(url)
        if now is None:
            return
        if now != held:
            raise _refusal(url, now)
    log.warning("%s did not beat for %.0f s: taken over", url, EXPIRY_S)


def _refusal(url: str, holder: Holder) -> LeaseHeld:
    minutes = max(0.0, time.time() - holder.since_unix_s) / 60
    return LeaseHeld(
        f"this job runs already: process {holder.pid} on {holder.host}, for {minutes:.0f} minutes ({url}). Wait for its "
        "end, stop it (SIGTERM leaves a checkpoint), or give this run another name"
    )


def _beat(url: str, mine: Holder, over: threading.Event, stop: StopToken) -> None:
    beat = 0
    while not over.wait(BEAT_S):
        beat += 1
        try:
            holder = _read(url)
            if holder is not None and holder.token != mine.token:
                log.error("process %d on %s took this job over; this one stops", holder.pid, holder.host)
                stop.insist()
                return
            _write(url, mine.model_copy(update={"beat": beat}))
        except StorageError as error:  # tried again at the next beat
            log.warning("the lease could not be renewed: %s", error)


def _release(url: str, mine: Holder) -> None:
    try:
        holder = _read(url)
        if holder is not None and holder.token == mine.token:
            remove(url)
    except StorageError as error:  # it expires
        log.warning("the lease could not be given back: %s", error)


def _read(url: str) -> Holder | None:
    text = read_text(url)
    try:
        return Holder.model_validate_json(text) if text else None
    except ValidationError:  # half written, or of another version
        return Holder(token="", host="", pid=0, since_unix_s=0.0)


def _write(url: str, holder: Holder) -> None:
    write_bytes(url, holder.model_dump_json().encode())
