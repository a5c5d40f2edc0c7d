"""Faults of storage: what each means, what to do about it, and how long one that may pass is borne."""

import errno
import logging
import math
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from tadscale.credentials import hide_credentials
from tadscale.data.quarantine import DataError

log = logging.getLogger(__name__)
T = TypeVar("T")


class StorageError(OSError):
    """Storage is out of reach or refuses: a fault of the system or its settings, never of one video."""


class DamagedWrite(OSError):
    """Storage took a file and keeps other bytes than it was given, or none."""


class Retry(NamedTuple):
    """How long a passing fault of storage is borne: 16 s of refused connections, 45 s of unanswered ones."""

    attempts: int = 6
    first_wait_s: float = 0.5
    """Doubles from attempt to attempt."""
    total_s: float = 45.0
    """The longest that an operation takes, all attempts together, and a second more for every 256 KiB to be moved."""


DEFAULT_RETRY = Retry()


def with_retry(operation: Callable[[], T], url: str, retry: Retry = DEFAULT_RETRY, deadline: float = math.inf) -> T:
    """Run an operation on storage, again after passing faults, with waits that double.

    Args:
        operation: ends by the deadline, if there is one.
        url: what it is about, for errors.
        retry: how often, and how long it waits before.
        deadline: no attempt begins after it; on the clock of `time.monotonic`.

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
            wait_s = retry.first_wait_s * 2**attempt
            if not fault.passing or attempt == retry.attempts - 1 or time.monotonic() + wait_s >= deadline:
                tried = f" ({attempt + 1} attempts)" if fault.passing else ""
                raise StorageError(f"{url}: {fault.cause}{tried}: {_brief(error)}. {fault.remedy}") from error
            log.info("%s: %s, attempt %d of %d: %s", url, fault.cause, attempt + 1, retry.attempts, _brief(error))
            time.sleep(wait_s)
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
_UNFAITHFUL = _Fault(
    "storage does not keep what was written",
    "The object store, its disks or a proxy on the way to it damage or drop data: nothing else should be written to it.",
    passing=True,
)
_LOST_UPLOAD = _Fault(
    "the object store gave up an upload on the way",
    "A time-out cut it off, or the bucket's rules end uploads too soon (AbortIncompleteMultipartUpload).",
    passing=True,
)
_READ_ONLY = _Fault(
    "storage is read-only",
    "Mount it to be written to, or set the job's storage elsewhere; after a fault of its disk Linux remounts a file system "
    "like this.",
)
_BAD_REQUEST = _Fault(
    "S3 takes the request for a bad one",
    "A session token that has expired (AWS_SESSION_TOKEN) or a wrong region (AWS_REGION) is the likely cause: where only a "
    "file's head is asked for, S3 says no more than this.",
)
_BROKEN = _Fault("storage failed", "These are the system's own words; its log, or the server's, may have more.")

_BAD_REQUEST_CODES = frozenset(
    {"400", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed"}
)


def _diagnose(error: Exception) -> _Fault | None:
    """What an exception means for storage; None if it is none of storage's (out of memory, disk full, a bug)."""
    if isinstance(error, StorageError | DataError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return None
    if isinstance(error, DamagedWrite):
        return _UNFAITHFUL
    if isinstance(error, FileNotFoundError):  # s3fs makes one of every 404
        return _LOST_UPLOAD if s3_code(error) == "NoSuchUpload" else _MISSING
    if s3_code(error) in _BAD_REQUEST_CODES:
        return _BAD_REQUEST
    if getattr(error, "errno", None) == errno.EROFS:
        return _READ_ONLY
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


def _brief(error: Exception) -> str:
    return hide_credentials(f"{type(error).__name__}: {error}").strip().rstrip(".")[:300]


def s3_code(error: BaseException) -> str:
    """S3's code for an error that s3fs translated: "NoSuchKey", "InvalidRange"..."""
    response = getattr(error.__cause__ or error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
