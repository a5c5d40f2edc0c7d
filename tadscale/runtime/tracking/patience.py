"""MLflow may be away for a while: which failures of a call mean that, and waiting until it is back."""

import logging
import time
from collections.abc import Callable
from typing import Any

from tadscale.credentials import hide_credentials

RETRY_S = 5.0
TRANSIENT = frozenset({429, 500, 502, 503, 504})
"""HTTP states that a later try may not meet; MLflow's client says 500 where nobody answers at all."""

log = logging.getLogger(__name__)


class TrackingAway(OSError):
    """The tracking store does not answer."""


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
        """
        deadline, said = time.monotonic() + self.patience_s, False
        while True:
            try:
                return method(*args, **kwargs)
            except Exception as error:
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


def is_away(error: BaseException) -> bool:
    """Whether a failed call to MLflow may succeed later: nobody answers, or an answer that says so."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.get_http_status_code() in TRANSIENT
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError)


def _first_words(error: BaseException) -> str:
    return hide_credentials((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]
