"""Live detection: frames in, detections out as they become certain."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tadscale.data.windows import WindowConfig
from tadscale.errors import UserError
from tadscale.metrics.nms import suppress
from tadscale.models.heads.base import WindowDetections
from tadscale.network import NetworkSpec

KEPT_WINDOWS = 2  # with one, Soft-NMS gave 1 of 90 scores otherwise than with all (the most crowded case of the tests)


class WindowDetector(Protocol):
    """As much of a `Predictor` as live detection asks for."""

    @property
    def spec(self) -> NetworkSpec:
        """What the network is."""

    def detect_windows(self, windows: NDArray, mask: NDArray[np.bool_]) -> list[WindowDetections]:
        """Detections of windows `[n, T, H, W, 3]` of which the frames `[n, T]` exist."""


@dataclass(frozen=True, kw_only=True)
class LiveDetection:
    """A detection that nothing can change any more."""

    label: str
    start_s: float
    """Seconds since the first frame."""
    end_s: float
    score: float
    seen_s: float
    """How much of the stream had been seen when it was certain."""

    @property
    def latency_s(self) -> float:
        """How much of the stream had passed since its end."""
        return self.seen_s - self.end_s


class LiveDetector:
    """A window slides over the stream by `hop_frames`, and what lies behind it for good is given out, once.

    **The rule.** A window speaks of the frames that it has seen: its segments are cut to it. When the window that begins at
    frame `s` has been looked at, all later ones begin at `s + hop` or behind, so that nothing they find can overlap what
    ends there or before, and suppression acts between overlapping segments alone. Detections that end at or before
    `s + hop` are therefore decided: those that suppression has left with the least score are given out, the others never.

    Decided means of a detection and of all that overlaps it, not of what overlaps those in turn: a neighbour that reaches
    behind `s + hop` may be weakened later and would then have suppressed less. What has been given out is not taken back.

    **Latency**, from a detection's end until it is given out, in time of the stream: at least a window less a hop, at most
    a window; to it comes the time that one window takes to compute. Shorter needs shorter windows: with smaller hops more
    windows have a say, and all of them must have spoken. With the hop of evaluation (`stride_frames`) windows stand where
    evaluation has them, but for the last one: that is padded, where evaluation's ends with the video, for it would speak
    of what has been given out.

    Memory is that of one window's frames and of the detections of the last few: those that ended two windows back are
    forgotten. Nothing undecided overlaps them; of what overlaps those in turn, see above.

    Args:
        detector: a `Predictor`.
        hop_frames: sampled frames from one window to the next, at most a window's length; by default as in evaluation.
        min_score: the least score after suppression.

    Raises:
        UserError: windows would leave frames out, or the model reads features.
    """

    def __init__(self, detector: WindowDetector, *, hop_frames: int | None = None, min_score: float = 0.1) -> None:
        self.window = _pictures_only(detector.spec.window)
        self.hop_frames = self.window.stride_frames if hop_frames is None else hop_frames
        if not 1 <= self.hop_frames <= self.window.frames:
            raise UserError(
                f"a hop of {self.hop_frames} frames: with windows of {self.window.frames} it must be 1 to that many, or "
                "frames between two windows would never be seen"
            )
        self._detector, self._classes = detector, detector.spec.classes
        least = max(min_score, detector.spec.inference.nms.min_score)
        self._nms = detector.spec.inference.nms.model_copy(update={"min_score": least})
        self._frames: deque[NDArray[np.uint8]] = deque(maxlen=self.window.frames)
        self._seen = self._next = self._reached = 0  # frames; where the next window begins; where the one before ended
        self._found = _Found.none()

    def push(self, frame: NDArray[np.uint8]) -> list[LiveDetection]:
        """Take in the next sampled frame `[H, W, 3]`; what has become certain by it, in the order of their ends."""
        self._frames.append(frame)
        self._seen += 1
        if self._seen - self._next < self.window.frames:
            return []
        self._look()
        return self._give(horizon=self._next)

    def finish(self) -> list[LiveDetection]:
        """The stream has ended: what is left. A window that is not full is padded."""
        if self._reached < self._seen:
            self._look()
        return self._give(horizon=np.inf)

    def _look(self) -> None:
        """Run the network on the next window, as far as there is one."""
        exist = self._seen - self._next
        windows = self.window.blank(self.window.frames)[None]  # [1, T, H, W, 3]
        windows[0, :exist] = np.stack(list(self._frames)[-exist:])
        (window,) = self._detector.detect_windows(windows, np.arange(self.window.frames)[None] < exist)
        self._found = self._found.with_window(self._next, exist, window)
        self._reached = self._seen
        self._next += self.hop_frames

    def _give(self, horizon: float) -> list[LiveDetection]:
        """Decide what ends at the horizon or before, and give it out."""
        found = self._found
        nms = self._nms.model_copy(update={"top_k": max(len(found.scores), 1)})
        kept = suppress(found.segments, found.scores, found.labels, nms)
        ends = found.segments[kept.row, 1]
        certain = np.flatnonzero((ends <= horizon) & ~found.decided[kept.row])
        in_order = certain[np.argsort(ends[certain], kind="stable")]
        given = [self._detection(int(kept.row[index]), float(kept.score[index])) for index in in_order]
        self._found = found.decided_until(horizon, keep_behind=horizon - KEPT_WINDOWS * self.window.frames)
        return given

    def _detection(self, row: int, score: float) -> LiveDetection:
        start_s, end_s = self.window.to_seconds(self._found.segments[row]).tolist()
        label = self._classes[self._found.labels[row]]
        return LiveDetection(
            label=label, start_s=start_s, end_s=end_s, score=score, seen_s=self._seen / self.window.fps
        )


@dataclass(frozen=True)
class _Found:
    """What windows have found and suppression still has to weigh."""

    segments: NDArray[np.float64]  # [N, 2], in sampled frames of the stream
    scores: NDArray[np.float64]  # [N], before suppression
    labels: NDArray[np.int64]  # [N]
    decided: NDArray[np.bool_]  # [N]

    @classmethod
    def none(cls) -> "_Found":
        return cls(np.empty((0, 2)), np.empty(0), np.empty(0, np.int64), np.empty(0, np.bool_))

    def with_window(self, start: int, frames: int, window: WindowDetections) -> "_Found":
        segments = window.segments_frames.double().numpy().clip(0, frames) + start
        lasting = segments[:, 1] > segments[:, 0]
        return _Found(
            np.concatenate([self.segments, segments[lasting]]),
            np.concatenate([self.scores, window.scores.double().numpy()[lasting]]),
            np.concatenate([self.labels, window.labels.numpy()[lasting]]),
            np.concatenate([self.decided, np.zeros(lasting.sum(), np.bool_)]),
        )

    def decided_until(self, horizon: float, keep_behind: float) -> "_Found":
        """Mark what ends at the horizon or before, and forget what ends before `keep_behind`."""
        decided = self.decided | (self.segments[:, 1] <= horizon)
        kept = self.segments[:, 1] > keep_behind
        columns: Sequence[NDArray] = (self.segments, self.scores, self.labels, decided)
        return _Found(*(column[kept] for column in columns))


def _pictures_only(window: WindowConfig) -> WindowConfig:
    if window.features is not None:
        raise UserError(
            "the model reads features, and live detection looks at pictures: detect in recorded videos, if it carries what "
            "makes its features, or train a model on videos"
        )
    return window
