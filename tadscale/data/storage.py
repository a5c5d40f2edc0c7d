"""Files by URL: local paths and S3, through fsspec, with one bounded retry loop and errors that name the remedy.

File systems are made inside the process that uses them (s3fs does not survive a fork); fsspec keeps one per process.
S3's credentials and endpoint come from the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_ENDPOINT_URL`, `AWS_REGION`, or whatever else botocore finds (profiles, instance roles).
"""

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import fsspec

from tadscale.data.quarantine import DataError
from tadscale.errors import UserError
from tadscale.paths import expand_home

SCHEMES = ("file", "s3")
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30

log = logging.getLogger(__name__)
T = TypeVar("T")


class StorageError(OSError):
    """Storage is out of reach or refuses: a fault of the system or its settings, never of one video."""


class CorruptMember(DataError):
    """The bytes in storage are not those that the manifest names."""


class Retry(NamedTuple):
    """How long a passing fault of storage is borne: 16 s of refused connections, some 45 s of unanswered ones."""

    attempts: int = 6
    first_wait_s: float = 0.5
    """Doubles from attempt to attempt."""


DEFAULT_RETRY = Retry()


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
            f"cannot open {scheme}:// of {url!r}: storage is a local path, file:// or s3:// "
            "(other object stores: through their S3-compatible endpoint, AWS_ENDPOINT_URL)"
        )
    if scheme == "file":
        return fsspec.filesystem("file"), str(Path(expand_home(rest)).absolute())
    if "@" in urlsplit(url).netloc:
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


def read_range(url: str, offset: int, size: int, sha256: str | None = None, *, retry: Retry = DEFAULT_RETRY) -> bytes:
    """Read `size` bytes from `offset`, and verify their number and their digest.

    What does not verify is read once more, in case it was damaged on its way.

    Raises:
        CorruptMember: what is stored is shorter, or other than `sha256` says.
        StorageError: the file does not exist or cannot be reached.
    """

    def read() -> bytes:
        filesystem, path = open_filesystem(url)
        try:
            return filesystem.cat_file(path, start=offset, end=offset + size)
        except OSError as error:
            if _s3_code(error) in ("InvalidRange", "416"):  # the file ends before the offset
                return b""
            raise

    fault = ""
    for _ in range(2):
        data = with_retry(read, url, retry) if size else b""
        if len(data) != size:
            fault = f"{len(data)} bytes instead of {size}"
        elif sha256 and hashlib.sha256(data).hexdigest() != sha256:
            fault = f"the digest is not {sha256[:12]}..."
        else:
            return data
    raise CorruptMember(
        f"{url} at byte {offset}: {fault}: the shard is damaged, or was changed after its manifest was made"
    )


def read_bytes(url: str, *, retry: Retry = DEFAULT_RETRY) -> bytes:
    """A whole file. Raises `StorageError`."""

    def read() -> bytes:
        filesystem, path = open_filesystem(url)
        return filesystem.cat_file(path)

    return with_retry(read, url, retry)


def write_bytes(url: str, data: bytes, *, retry: Retry = DEFAULT_RETRY) -> None:
    """Write a whole file: readers see all of it, or what was there before. Raises `StorageError`."""
    _write_whole(url, lambda filesystem, path: filesystem.pipe_file(path, data), retry)


def upload(local: Path, url: str, *, retry: Retry = DEFAULT_RETRY) -> None:
    """Copy a local file to a URL: readers see all of it, or what was there before. Raises `StorageError`."""
    _write_whole(url, lambda filesystem, path: filesystem.put_file(str(local), path), retry)


def _write_whole(url: str, write: Callable[[Any, str], None], retry: Retry) -> None:
    def attempt() -> None:
        filesystem, path = open_filesystem(url)
        if "file" not in filesystem.protocol:
            write(filesystem, path)  # an object appears when its upload is complete
            return
        part = Path(f"{path}.{uuid4().hex}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(filesystem, str(part))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    with_retry(attempt, url, retry)


def list_names(url: str, *, retry: Retry = DEFAULT_RETRY) -> list[str]:
    """Sorted names of the files directly in a folder, and of links to files; none if there is no such folder. Raises
    `StorageError`."""

    def names() -> list[str]:
        filesystem, path = open_filesystem(url)
        try:
            entries = filesystem.ls(path, detail=True)
        except FileNotFoundError:
            return []
        files = [f for f in entries if f["type"] == "file" or (f.get("islink") and filesystem.isfile(f["name"]))]
        return sorted(f["name"].rsplit("/", 1)[-1] for f in files)

    return with_retry(names, url, retry)


def remove(url: str, *, retry: Retry = DEFAULT_RETRY) -> None:
    """Delete one file. Raises `StorageError`, also if there is none."""

    def rm() -> None:
        filesystem, path = open_filesystem(url)
        filesystem.rm_file(path)

    with_retry(rm, url, retry)


def with_retry(operation: Callable[[], T], url: str, retry: Retry = DEFAULT_RETRY) -> T:
    """Run an operation on storage, again after passing faults, with waits that double.

    Raises:
        StorageError: the fault does not pass, or did not pass in time; says the likely cause and what to do.
    """
    for attempt in range(retry.attempts):
        try:
            return operation()
        except Exception as error:
            fault = _diagnose(error)
            if fault is None:
                raise
            if not fault.passing or attempt == retry.attempts - 1:
                tried = f" ({attempt + 1} attempts)" if fault.passing else ""
                raise StorageError(f"{url}: {fault.cause}{tried}: {_brief(error)}. {fault.remedy}") from error
            log.info("%s: %s, attempt %d of %d: %s", url, fault.cause, attempt + 1, retry.attempts, _brief(error))
            time.sleep(retry.first_wait_s * 2**attempt)
    raise AssertionError("a retry needs at least one attempt")


class _Fault(NamedTuple):
    cause: str
    remedy: str
    passing: bool = False


_MISSING = _Fault(
    "no such file, folder or bucket", "Check the URL; if it was right before, the data were moved or deleted."
)
_REFUSED = _Fault(
    "access denied",
    "For s3://, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are wrong or expired, belong to another endpoint "
    "(AWS_ENDPOINT_URL), or do not allow this operation; for a path, look at its permissions.",
)
_NO_CREDENTIALS = _Fault(
    "no S3 credentials",
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of every process of the job.",
)
_UNREACHABLE = _Fault(
    "storage cannot be reached",
    "Check AWS_ENDPOINT_URL, the network from this machine, and whether the server is up.",
    passing=True,
)
_BUSY = _Fault(
    "storage is busy or failing", "The server answers with errors: try later, or with fewer readers.", passing=True
)
_BROKEN = _Fault("storage failed", "See the error above.")


def _diagnose(error: Exception) -> _Fault | None:
    """What an exception means for storage; None if it is none of storage's (out of memory, disk full, a bug)."""
    if isinstance(error, StorageError | DataError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return None
    if isinstance(error, FileNotFoundError):
        return _MISSING
    if isinstance(error, PermissionError):
        return _REFUSED
    ancestry = {f"{c.__module__.split('.')[0]}.{c.__name__}" for c in type(error).__mro__}  # botocore stays unimported
    if ancestry & {"botocore.NoCredentialsError", "botocore.PartialCredentialsError"}:
        return _NO_CREDENTIALS
    if ancestry & {"botocore.ConnectionError", "botocore.HTTPClientError", "aiohttp.ClientError"}:
        return _UNREACHABLE
    if isinstance(error, ConnectionError | TimeoutError):
        return _UNREACHABLE
    if getattr(error, "errno", None) in (errno.EBUSY, errno.EREMOTEIO, errno.EIO):  # 503, 500, unknown
        return _BUSY
    return _BROKEN if isinstance(error, OSError) or "botocore.BotoCoreError" in ancestry else None


def _s3_code(error: BaseException) -> str:
    """S3's code for an error that s3fs translated: "NoSuchKey", "InvalidRange"..."""
    response = getattr(error.__cause__ or error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().rstrip(".")[:300]
