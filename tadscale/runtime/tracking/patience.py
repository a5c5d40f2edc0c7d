"""MLflow may be away for a while: which failures of a call mean that, and waiting until it is back."""

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from tadscale.credentials import hide_credentials
from tadscale.errors import UserError

RETRY_S = 5.0
TRANSIENT = frozenset({429, 500, 502, 503, 504})
"""HTTP states that a later try may not meet; MLflow's client says 500 where nobody answers at all."""

CANNOT_WRITE = (
    *map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS)), "database or disk is full", "readonly database"
)  # fmt: skip
"""What the system and SQLite say of a disk; shutil and MLflow hand on the words, and not the number."""

log = logging.getLogger(__name__)


class TrackingAway(OSError):
    """The tracking store does not answer."""


class TrackingRefused(UserError):
    """The tracking store cannot write, does not let in whoever asks, or is none at all: waiting does not help."""


class NotAllowed(TrackingRefused):
    """It knows who asks, and does not allow this. MLflow says so of what is not there, too, to all but administrators."""


class PatientClient:
    """An `MlflowClient` whose calls wait for a store that is away, for `patience_s` seconds at most.

    Args:
        client: the real one.
        where: its store, as a user may read it: without secrets.
        patience_s: may be changed while it is used.
    """

    def __init__(self, client: Any, where: str, patience_s: float) -> None:
        self._client = client
        self._where = where
        self.patience_s = patience_s

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return (lambda *args, **kwargs: self._call(method, args, kwargs)) if callable(method) else method

    def _call(self, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call, and again while the store is away.

        Raises:
            TrackingAway: it was away for longer.
            TrackingRefused: it will not answer this, now or later.
        """
        deadline, said = time.monotonic() + self.patience_s, False
        while True:
            try:
                return method(*args, **kwargs)
            except Exception as error:
                if refusal := self._refusal(error):
                    raise refusal from error
                if not is_away(error):
                    raise
                if time.monotonic() >= deadline:
                    raise TrackingAway(
                        f"the tracking store {self._where} does not answer ({_first_words(error)}): is the server up, and "
                        "the address right? The same command goes on from what is finished"
                    ) from error
                if not said:
                    log.warning("the tracking store %s does not answer; waiting %.0f s", self._where, self.patience_s)
                    said = True
            time.sleep(min(RETRY_S, max(0.0, deadline - time.monotonic())))

    def _refusal(self, error: Exception) -> TrackingRefused | None:
        status, words = _http_status(error), _first_words(error)
        if any(said in str(error) for said in CANNOT_WRITE):
            return TrackingRefused(
                f"the tracking store {self._where} cannot write ({words}): its disk, or that of its artifacts, is full or "
                "read-only. Make room, or mount it to be written to; the same command then goes on from what is finished"
            )
        if status == 401:
            return TrackingRefused(
                f"the tracking store {self._where} does not know who asks ({words}): set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD to a user's that it knows, where this runs and in all processes of the job"
            )
        if status == 403:
            return NotAllowed(
                f"the tracking store {self._where} does not allow this ({words}): have its administrator give the user "
                "MLFLOW_TRACKING_USERNAME the permission, or set that and MLFLOW_TRACKING_PASSWORD to another's"
            )
        if getattr(error, "error_code", None) == "ENDPOINT_NOT_FOUND":
            return TrackingRefused(
                f"what answers at {self._where} is no MLflow server, or a much older one ({words}): check the address, "
                "its port and path, in tracking.tracking_uri and MLFLOW_TRACKING_URI"
            )
        return None


def is_away(error: BaseException) -> bool:
    """Whether a failed call to MLflow may succeed later: nobody answers, or an answer that says so."""
    status = _http_status(error)
    if status is not None:
        return status in TRANSIENT
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError)


def _http_status(error: BaseException) -> int | None:
    """Of an answer, or the one that MLflow takes for it; of an artifact's, which the server hands through, too."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.get_http_status_code()
    return getattr(getattr(error, "response", None), "status_code", None)


def _first_words(error: BaseException) -> str:
    return hide_credentials((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]
