"""Bytes from storage kept on a node's disk, shared by the processes on it.

An entry is a file whose name is the digest of its content, so it means the same to every run and every data set, cannot go
stale, and is verified by nothing but itself. Nothing is ever damaged by a process that dies:

- one process at a time writes, under a lock of `flock`, which ends with its holder (a page cache takes more than 1 GB/s, and
  a node fetches less); reading needs no lock;
- a file is written under another name and renamed when it is whole; another name seen under the lock is a dead process's;
- room is entered in the account before it is filled: a process that dies in between leaves the account too high, never too
  low, and the next count of what is there puts it right.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from tadscale.config import Config
from tadscale.data.faults import StorageError
from tadscale.paths import expand_home

EVICT_TO = 0.9  # of the bound: a count of what is there costs a second for 500,000 files, and should not come with each
PART = ".part"


class CacheConfig(Config):
    """A cache of what was fetched, on the disk of each node."""

    path: str = Field(min_length=1)
    """Folder on the node's own disk. Runs may share it, at the same time and one after the other."""
    bytes: Annotated[int, Field(ge=1 << 20)]
    """The most that it may hold; what was used longest ago goes first. Every epoch has an order of its own: a cache of half
    of what an epoch fetches answers for 15 % of the next, one of nine tenths for 67 %, one with room for all for all."""


class _Entry(NamedTuple):
    used_s: float
    size: int
    path: str


class BlockCache:
    """The cache of a node, as one process sees it.

    Args:
        config: where it is, and how large it may grow.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._folder, self._max_bytes = Path(expand_home(config.path)), config.bytes

    def get(self, digest: bytes) -> bytes | None:
        """The bytes of which this is the SHA-256 or its beginning, if they are here and sound."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).digest().startswith(digest):
                os.utime(path)
                return data
            path.unlink()
        except FileNotFoundError:  # it never was here, or another process took it away
            pass
        return None

    def put(self, digest: bytes, data: bytes) -> None:
        """Keep bytes that have been verified against their digest.

        Raises:
            StorageError: the folder cannot be written, or its disk is full before the bound is reached.
        """
        path = self._path(digest)
        if len(data) > self._max_bytes or path.exists():
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked() as account:
                self._make_room(account, len(data))
                _write_whole(path, data)
        except OSError as error:
            raise StorageError(_what_to_do(error, self._folder)) from error

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name

    def _make_room(self, account: int, size: int) -> None:
        """Enter `size` bytes in the account, after removing others where they would not fit."""
        used = _read_number(account)
        if used is None or used + size > self._max_bytes:
            used = self._evict(self._max_bytes * EVICT_TO - size)
        _write_number(account, used + size)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The account, a small file that one process at a time has in hand: its descriptor."""
        import fcntl  # late: Windows has none, and consumers of a model import this module without ever having a cache

        account = os.open(self._folder / "account", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(account, fcntl.LOCK_EX)
            yield account
        finally:
            os.close(account)  # and with it the lock, as when the process dies

    def _evict(self, most: float) -> int:
        """Count what is there, and remove what was used longest ago until at most `most` bytes are left; how many are."""
        entries = sorted(self._entries())
        left = sum(entry.size for entry in entries)
        for entry in entries:
            if left <= most:
                break
            with suppress(FileNotFoundError):
                os.unlink(entry.path)
            left -= entry.size
        return left

    def _entries(self) -> Iterator[_Entry]:
        for folder in os.scandir(self._folder):
            if not folder.is_dir():
                continue
            for file in os.scandir(folder.path):
                if file.name.endswith(PART):
                    os.unlink(file.path)
                    continue
                with suppress(FileNotFoundError):  # a reader found it damaged, and removed it
                    facts = file.stat()
                    yield _Entry(facts.st_mtime, facts.st_size, file.path)


@lru_cache(maxsize=4)
def open_cache(config: CacheConfig) -> BlockCache:
    """The cache of this node."""
    return BlockCache(config)


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}{PART}")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _read_number(account: int) -> int | None:
    text = os.pread(account, 32, 0)
    return int(text) if text.strip().isdigit() else None


def _write_number(account: int, number: int) -> None:
    os.pwrite(account, f"{number:<31}\n".encode(), 0)


def _what_to_do(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder}: the disk of the cache is full: {error}. Lower data.cache.bytes, or make room on that disk"
    return f"{folder}: the cache cannot be written: {error}. Set data.cache.path to a folder that the job may write"
