"""Files by URL: local paths and S3, through fsspec, within a bounded time, what is written verified.

File systems are made inside the process that uses them (s3fs does not survive a fork); fsspec keeps one per process.
S3's credentials and endpoint come from the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_ENDPOINT_URL`, `AWS_REGION`, or whatever else botocore finds (profiles, instance roles).
"""

import errno
import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import fsspec

from tadscale.credentials import has_credentials, hide_credentials
from tadscale.data.faults import DEFAULT_RETRY, DamagedWrite, Retry, StorageError, s3_code, with_retry
from tadscale.data.quarantine import DataError
from tadscale.errors import UserError
from tadscale.paths import expand_home

SCHEMES = ("file", "s3")
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 15  # between two pieces of an answer; a whole operation ends by `Retry.total_s`
SLOWEST_BYTES_PER_S = 256 << 10  # what comes slower counts as stalled: a shard of 1 GB may take 64 minutes
PART_BYTES = 50 << 20  # of an upload in parts, which is what 100 MiB and more are; decides the entity tag

T = TypeVar("T")


class CorruptMember(DataError):
    """The bytes in storage are not those that the manifest names."""


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it. Connects to nothing yet.

    Raises:
        UserError: a scheme outside the allow-list, or credentials written into the URL.
        StorageError: the package for the scheme is missing.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return fsspec.filesystem("file"), str(Path(expand_home(url)).absolute())
    if scheme not in SCHEMES or "::" in url:
        raise UserError(
            f"cannot open {scheme}:// of {hide_credentials(url)!r}: storage is a local path, file:// or s3:// "
            "(other object stores: through their S3-compatible endpoint, AWS_ENDPOINT_URL)"
        )
    if scheme == "file":
        return fsspec.filesystem("file"), str(Path(expand_home(rest)).absolute())
    if has_credentials(url):
        raise UserError("credentials do not belong in an s3:// URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    try:
        return _s3(), rest
    except ImportError as error:
        raise StorageError(f"{url}: s3:// needs s3fs; install it: pip install 'tadscale[train]'") from error


def _s3() -> Any:
    """S3 without caches and inner retries: botocore's 5 times s3fs's 5 times ours would take minutes to fail."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")  # botocore knows the second only
    filesystem = fsspec.filesystem(
        "s3",
        use_listings_cache=False,  # other processes write, too
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"total_max_attempts": 1},
            # Servers other than AWS may not know the newer checksums; the manifest's digests say more.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
        # An instance is cached by its arguments: a changed endpoint or key must not meet the old one.
        client_kwargs={"region_name": region} if region else {},
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
        key=os.environ.get("AWS_ACCESS_KEY_ID") or None,
        secret=os.environ.get("AWS_SECRET_ACCESS_KEY") or None,
        token=os.environ.get("AWS_SESSION_TOKEN") or None,
    )
    filesystem.retries = 1
    return filesystem


def same_place(url: str, other: str) -> bool:
    """Whether two URLs name one folder, however they are written. Raises what `open_filesystem` raises."""

    def place(which: str) -> tuple[type, str]:
        filesystem, path = open_filesystem(which)
        local = which.partition("://")[1] == "" or which.startswith("file://")
        return type(filesystem), str(Path(path).resolve()) if local else path.rstrip("/")

    return place(url) == place(other)


def join(url: str, *names: str) -> str:
    """`url/name/...`, for paths and URLs alike."""
    return "/".join([url.rstrip("/"), *names])


def read_text(url: str) -> str:
    """The text of a small file that may not be there yet, empty if it is not. Raises `StorageError`."""
    try:
        return read_bytes(url).decode()
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return ""
        raise


def _unheard(*told: object) -> None:
    pass


def read_range(
    url: str,
    offset: int,
    size: int,
    sha256: str | None = None,
    *,
    answered: Callable[[bytes], None] = _unheard,
    retried: Callable[[], None] = _unheard,
    retry: Retry = DEFAULT_RETRY,
) -> bytes:
    """Read `size` bytes from `offset`, and verify their number and their digest. Raises as `read_verified`."""

    def fault_of(data: bytes) -> str:
        return f"the digest is not {sha256[:12]}..." if sha256 and hashlib.sha256(data).hexdigest() != sha256 else ""

    return read_verified(url, offset, size, fault_of, answered=answered, retried=retried, retry=retry)


def read_verified(
    url: str,
    offset: int,
    size: int,
    fault_of: Callable[[bytes], str],
    *,
    answered: Callable[[bytes], None] = _unheard,
    retried: Callable[[], None] = _unheard,
    retry: Retry = DEFAULT_RETRY,
) -> bytes:
    """Read `size` bytes from `offset`, and verify them. What does not verify is read once more, in case it was damaged on
    its way.

    Args:
        url: of the file.
        offset: first byte.
        size: number of bytes.
        fault_of: what is wrong with bytes of the right number; empty if nothing is.
        answered: is told what each request brought, right or wrong.
        retried: is told of each request that is made again: after a fault of storage, or after a wrong answer.
        retry: for how long faults of storage are borne.

    Raises:
        CorruptMember: what is stored is shorter, or `fault_of` finds fault with it.
        StorageError: the file does not exist or cannot be reached.
    """

    asked = False

    def read(place: _Place) -> bytes:
        nonlocal asked
        if asked:
            retried()
        asked = True
        try:
            return place.call("cat_file", start=offset, end=offset + size)
        except OSError as error:
            if s3_code(error) in ("InvalidRange", "416"):  # the file ends before the offset
                return b""
            raise

    fault = ""
    for _ in range(2):
        data = _operate(read, url, retry, size) if size else b""
        answered(data)
        fault = fault_of(data) if len(data) == size else f"{len(data)} bytes instead of {size}"
        if not fault:
            return data
    raise CorruptMember(
        f"{url} at byte {offset}: {fault}: the shard is damaged, or was changed after its manifest was made"
    )


def file_size(url: str, *, retry: Retry = DEFAULT_RETRY) -> int:
    """Bytes of a file. Raises `StorageError`, also if there is none."""
    return int(_operate(lambda place: place.call("info"), url, retry)["size"] or 0)


def read_bytes(url: str, *, retry: Retry = DEFAULT_RETRY) -> bytes:
    """A whole file. Raises `StorageError`."""
    size = _operate(lambda place: place.size, url, retry)

    def read(place: _Place) -> bytes:
        data = place.call("cat_file")
        if place.is_remote and len(data) != place.size:  # cut short on its way, or replaced meanwhile
            raise OSError(errno.EIO, f"{len(data)} bytes came of {place.size}")
        return data

    return _operate(read, url, retry, size)


def write_bytes(url: str, data: bytes, *, retry: Retry = DEFAULT_RETRY) -> None:
    """Write a whole file: readers see all of it, or what was there before. On S3, what is stored is verified.

    Raises:
        StorageError: the storage cannot be reached or refuses, or keeps other bytes than these.
    """
    _write_whole(url, _Content(data), retry)


def upload(local: Path, url: str, *, retry: Retry = DEFAULT_RETRY) -> None:
    """Copy a local file to a URL, as `write_bytes` does. Raises as it does."""
    _write_whole(url, _Content(local), retry)


def _write_whole(url: str, content: "_Content", retry: Retry) -> None:
    def attempt(place: _Place) -> None:
        if place.is_remote:
            content.write(place, place.path, chunksize=PART_BYTES)  # an object appears when its upload is complete
            _verify(place, content)
            return
        part = Path(f"{place.path}.{uuid4().hex}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            content.write(place, str(part))
            part.replace(place.path)
        finally:
            part.unlink(missing_ok=True)

    _operate(attempt, url, retry, content.size)


def _verify(place: "_Place", content: "_Content") -> None:
    """Compare what an object store keeps with what it was given: by its digest, or by reading it back."""
    try:
        info = place.call("info")
        if info["size"] == content.size and info.get("ETag", "").strip('"') == content.etag():
            return
        # Where the store encrypts or proxies, the tag is another digest than S3's documented one: the bytes decide.
        if info["size"] == content.size and all(
            place.call("cat_file", start=first, end=first + len(part)) == part for first, part in content.parts()
        ):
            return
    except FileNotFoundError:
        raise DamagedWrite("it is not there, though its upload was confirmed") from None
    raise DamagedWrite(f"{info['size']} bytes are stored, and not the {content.size} that were written")


def list_names(url: str, *, retry: Retry = DEFAULT_RETRY) -> list[str]:
    """Sorted names of the files directly in a folder, and of links to files; none if there is no such folder. Raises
    `StorageError`."""
    return _list(url, "file", retry)


def list_folders(url: str, *, retry: Retry = DEFAULT_RETRY) -> list[str]:
    """Sorted names of the folders directly in a folder; none if there is no such folder. Raises `StorageError`."""
    return _list(url, "directory", retry)


def _list(url: str, kind: str, retry: Retry) -> list[str]:
    def names(place: _Place) -> list[str]:
        try:
            entries = place.call("ls", detail=True)
        except FileNotFoundError:
            return []
        return sorted(
            entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if _kind(place.filesystem, entry) == kind
        )

    return _operate(names, url, retry)


def _kind(filesystem: Any, entry: dict[str, Any]) -> str:
    """`file` or `directory`, of a link what it leads to."""
    if entry.get("islink"):
        return "file" if filesystem.isfile(entry["name"]) else "directory"
    return entry["type"]


def remove(url: str, *, retry: Retry = DEFAULT_RETRY) -> None:
    """Delete one file. Raises `StorageError`, also if there is none."""
    _operate(lambda place: place.call("rm_file"), url, retry)


def remove_folder(url: str, *, retry: Retry = DEFAULT_RETRY) -> None:
    """Delete a folder and all in it. Raises `StorageError`, also if there is none."""
    _operate(lambda place: place.call("rm", recursive=True), url, retry)


class _Content:
    """What is to be written: bytes, or a local file that need not fit into memory."""

    def __init__(self, source: bytes | Path) -> None:
        self._source = source
        self.size = len(source) if isinstance(source, bytes) else source.stat().st_size

    def write(self, place: "_Place", path: str, **more: Any) -> None:
        """Put it there."""
        if isinstance(self._source, bytes):
            place.call_on(path, "pipe_file", self._source, **more)
        else:
            place.limited("put_file", str(self._source), path, **more)

    def parts(self) -> Iterator[tuple[int, bytes]]:
        """Its parts as they are uploaded, each with its offset."""
        step = self.size if self.size < 2 * PART_BYTES else PART_BYTES
        with io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source.open("rb") as stream:
            for first in range(0, self.size, step or 1):
                yield first, stream.read(step)

    def etag(self) -> str:
        """S3's tag of it: the MD5 of an object, or that of its parts' MD5s and their number."""
        digests = [hashlib.md5(part, usedforsecurity=False).digest() for _, part in self.parts()]
        if self.size < 2 * PART_BYTES:
            return (digests or [hashlib.md5(b"", usedforsecurity=False).digest()])[0].hex()
        return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


class _Place(NamedTuple):
    """A path in a file system, and until when an operation may take."""

    filesystem: Any
    path: str
    deadline: float

    @property
    def is_remote(self) -> bool:
        """Whether it is an object store, whose calls go over the network and can be given a time."""
        return "file" not in self.filesystem.protocol

    @property
    def size(self) -> int:
        """Of a remote file, bytes; 0 for a local one, which is not waited for."""
        return int(self.call("info")["size"] or 0) if self.is_remote else 0

    def call(self, verb: str, *arguments: Any, **more: Any) -> Any:
        """A file system's method on the path, for as long as is left."""
        return self.call_on(self.path, verb, *arguments, **more)

    def call_on(self, path: str, verb: str, *arguments: Any, **more: Any) -> Any:
        """The same on another path."""
        return self.limited(verb, path, *arguments, **more)

    def limited(self, verb: str, *arguments: Any, **more: Any) -> Any:
        """A file system's method, for as long as is left."""
        if self.is_remote:
            more["timeout"] = max(self.deadline - time.monotonic(), 0.01)  # fsspec cancels the call then
        return getattr(self.filesystem, verb)(*arguments, **more)


def _operate(operation: Callable[[_Place], T], url: str, retry: Retry, size: int = 0) -> T:
    """Run an operation that moves `size` bytes, within the time that `retry` gives it. Raises as `with_retry` does."""
    deadline = time.monotonic() + retry.total_s + size / SLOWEST_BYTES_PER_S
    return with_retry(lambda: operation(_Place(*open_filesystem(url), deadline)), url, retry, deadline)
