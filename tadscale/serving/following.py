"""A detector that follows a name: when another version is meant by it, that one answers, and no request notices."""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from tadscale.serving.access import Access
from tadscale.serving.predictor import Prediction, Predictor
from tadscale.serving.sources import VideoSource

INTERVAL_S = 30.0
SLOWEST = 8  # times the interval, after one failure behind the other
CLOSE_S = 30.0  # for a look at the registry that is under way: MLflow's client gives up on a server after 20 s

log = logging.getLogger(__name__)


class ModelSource(Protocol):
    """Where versions come from. Every call ends in bounded time, and may raise `ValueError` or `OSError`."""

    def current(self) -> str:
        """The version that is meant now."""

    def fetch(self, version: str) -> AbstractContextManager[Path]:
        """The folder of a version's packaged model, for as long as the `with` block lasts."""


class Answer(NamedTuple):
    """What was found, and by whom."""

    version: str
    """The one version that has looked at all videos of the request."""
    prediction: Prediction


@dataclass(frozen=True, kw_only=True)
class Following:
    """How far a follower is, for a health check."""

    version: str
    """The version that answers."""
    checked_s: float
    """When the source was last asked with success: `time.monotonic()`."""
    failures: int = 0
    """Attempts that failed since."""
    error: str = ""
    """Why the last attempt failed; empty after one that did not."""


class FollowingPredictor:
    """Answers with the version that a source means, which it asks in the background.

    The new version is fetched, verified and loaded beside the old one, which answers meanwhile; then one assignment makes
    the new one the next request's. A request that is under way ends with the version that it began with, which is freed
    when its last request has ended: for that long both are in memory.

    Where the source does not answer, or its version cannot be used, the old one goes on answering for as long as it takes;
    the source is asked again after twice the time, four times and at most eight times the interval. `state` says so.

        with FollowingPredictor(source) as detector:
            version, prediction = detector.predict(["clip.mp4"])

    Args:
        source: such as `tadscale.runtime.models.follow.RegisteredModel`.
        interval_s: seconds between two looks: the longest that the old version goes on answering, loading apart.
        device: as of `Predictor`.

    Raises:
        ValueError, OSError: there is nothing to begin with.
    """

    def __init__(self, source: ModelSource, *, interval_s: float = INTERVAL_S, device: str | None = None) -> None:
        self._source, self._interval_s, self._device = source, interval_s, device
        self._answering = self._load(source.current())
        self.state = Following(version=self._answering[0], checked_s=time.monotonic())
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow-model", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def predict(
        self,
        sources: Sequence[VideoSource],
        names: Sequence[str] | None = None,
        *,
        top_k: int | None = None,
        access: Access | None = None,
    ) -> Answer:
        """As `Predictor.predict`, with the version that answered. May be called from several threads at once."""
        version, predictor = self._answering
        return Answer(version, predictor.predict(sources, names, top_k=top_k, access=access))

    def close(self) -> None:
        """Follow no longer; requests are answered still."""
        self._closed.set()
        self._thread.join(CLOSE_S)

    def _follow(self) -> None:
        while not self._closed.wait(self._interval_s * min(2**self.state.failures, SLOWEST)):
            try:
                self._look()
            except (ValueError, OSError) as error:
                self.state = replace(self.state, failures=self.state.failures + 1, error=str(error))
                log.warning("version %s goes on answering: %s", self.state.version, error)
            except Exception as error:  # of a client or a network library: whatever it is, the old version answers
                self.state = replace(self.state, failures=self.state.failures + 1, error=repr(error))
                log.exception("version %s goes on answering", self.state.version)

    def _look(self) -> None:
        version = self._source.current()
        if version != self._answering[0]:
            self._answering = self._load(version)
            log.info("version %s answers from now on, and no longer %s", version, self.state.version)
        self.state = Following(version=version, checked_s=time.monotonic())

    def _load(self, version: str) -> tuple[str, Predictor]:
        with self._source.fetch(version) as folder:
            return version, Predictor.from_directory(folder, self._device)
