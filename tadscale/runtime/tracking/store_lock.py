"""One at a time in an MLflow store that is a SQLite file. A server has no lock to give: its callers must bear each other."""

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 60.0  # laying out a new database takes 7 s on two CPU cores, a move of the registry less than one
POLL_S = 0.02


def database_file(tracking_uri: str) -> Path | None:
    """The file of a SQLite store, None for every other."""
    scheme, separator, path = tracking_uri.partition(":///")
    if not separator or scheme.partition("+")[0] != "sqlite" or not path or path.startswith(":memory:"):
        return None
    return Path(path.partition("?")[0]).absolute()


@contextmanager
def exclusive(tracking_uri: str, purpose: str) -> Iterator[bool]:
    """While the block runs, no other thread or process is in one of the same purpose on the same SQLite store.

    The system lets go of the lock (`DATABASE.PURPOSE.lock`) when its holder dies, however that happens. The block is given
    whether there is a lock at all.

    Raises:
        TimeoutError: another holds the lock for longer than anything here takes.
    """
    database = database_file(tracking_uri)
    if database is None:
        yield False
        return
    path = database.with_name(f"{database.name}.{purpose}.lock")
    try:
        held = path.open("a")
    except (PermissionError, FileNotFoundError):  # nothing can be written here, so there is nothing to guard
        yield False
        return
    with held:
        _wait_for(held.fileno(), path)
        yield True


def _wait_for(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{path}: held by another process for {WAIT_S:.0f} s; look for a tadscale that hangs on this machine "
                "(fuser names it) and end it"
            )
        time.sleep(POLL_S)
