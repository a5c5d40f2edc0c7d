"""The one way from a video's bytes to its detections: cut -> detect -> merge.

Evaluation, `tadscale detect` and the registered model all go it, so that what is scored is what is served. Evaluation goes
it in pieces, on several processes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tadscale.data.decode import stream_frames
from tadscale.data.stored import EncodedVideo
from tadscale.data.windows import WindowConfig, WindowTable, read_frames
from tadscale.metrics.nms import suppress
from tadscale.models.heads.base import Predictions, WindowDetections
from tadscale.network import InferenceConfig, NetworkSpec
from tadscale.segments import Detection


@dataclass(frozen=True)
class DetectionPath:
    """How a network's detections come about: what it was told of windows, classes and reading off."""

    window: WindowConfig
    inference: InferenceConfig
    classes: tuple[str, ...]

    @classmethod
    def of(cls, spec: NetworkSpec) -> "DetectionPath":
        """As a network's description has it."""
        return cls(spec.window, spec.inference, spec.classes)

    def decode(self, video: bytes, starts: NDArray[np.int64], valid: NDArray[np.int64]) -> NDArray[Any]:
        """The frames that neighbouring windows cover, each decoded once: with half-overlapping ones 320 instead of 512.

        Args:
            video: the encoded file, or that of its features.
            starts: `[n]` first sampled frame of each window, ascending.
            valid: `[n]` how many of its frames exist.

        Returns:
            `[U, H, W, 3]` (or features `[U, C]`), from the first window's start to the last frame that any of them has.

        Raises:
            DataError: the video cannot be decoded that far.
        """
        first = int(starts[0])
        return read_frames(video, first, int((starts + valid).max()) - first, self.window)

    def stream(
        self, video: EncodedVideo, table: WindowTable, batch: int
    ) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
        """The windows of one video as `cut` gives them, `batch` at a time. Pictures are decoded once, in order, and let go
        behind the last window that needs them.

        Raises:
            DataError: the video cannot be decoded to its end.
        """
        times_s = np.arange((table.start_frames + table.valid_frames).max()) / self.window.fps
        return self.windows(stream_frames(video, times_s, self.window.size, self.window.crop()), table, batch)

    def windows(
        self, frames: Iterator[NDArray[Any]], table: WindowTable, batch: int
    ) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
        """The same out of a video's frames (or rows of its features), which come one after the other."""
        starts, ends = table.start_frames, table.start_frames + table.valid_frames  # [W]
        parts = [slice(begin, begin + batch) for begin in range(0, len(table), batch)]
        spans = [(int(starts[part][0]), int(ends[part].max())) for part in parts]
        for part, held in zip(parts, spans_of(frames, spans), strict=True):
            yield self.cut(held, starts[part], table.valid_frames[part])

    def cut(
        self, frames: NDArray[Any], starts: NDArray[np.int64], valid: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Windows `[n, T, H, W, 3]` (or `[n, T, C]`) and which frames exist `[n, T]`, out of what `decode` gave."""
        length = self.window.frames
        windows = np.zeros((len(starts), length, *frames.shape[1:]), frames.dtype)
        for window, start, count in zip(windows, starts - starts[0], valid, strict=True):
            window[:count] = frames[start : start + count]
        return windows, np.arange(length) < valid[:, None]

    @torch.inference_mode()
    def detect(self, network: nn.Module, windows: Tensor, mask: Tensor) -> list[WindowDetections]:
        """The detections of a batch of windows, as `cut` gives them, with mask `[n, T]`, one entry a window."""
        assert not network.training
        return self.read(network, network.detect(windows, mask))  # type: ignore[operator]

    def read(self, network: nn.Module, predictions: Predictions) -> list[WindowDetections]:
        """Detections read off predictions by the network's head, on the CPU; one entry a window.

        Raises:
            ValueError: a prediction is not a number. Compared with any least score it would be no detection, and no error.
        """
        if broken := sorted(name for name, value in predictions.items() if value.isnan().any()):
            raise ValueError(
                f"the network's predictions ({', '.join(broken)}) are not numbers: its weights are not usable"
            )
        top_k, nms = self.inference.window_top_k, self.inference.nms
        by_window = network.head.decode(predictions, top_k=top_k, min_score=nms.min_score)  # type: ignore[union-attr, operator]
        return [WindowDetections(*(column.cpu() for column in window)) for window in by_window]

    def merge(
        self, windows: Sequence[tuple[int, WindowDetections]], *, video: str, duration_s: float
    ) -> list[Detection]:
        """A video's detections by descending score, from those of its windows.

        Segments move from window to video, from sampled frames to seconds, and are clipped to the video; what has no length
        left is dropped; suppression merges what overlapping windows have both found.

        Args:
            windows: each window's first sampled frame and its detections, in the order of the windows.
            video: what the video is called.
            duration_s: its length.

        Raises:
            ValueError: a score is NaN: the weights come from a run that diverged.
        """
        frames = [part.segments_frames.double().numpy() + start for start, part in windows]
        segments_s = self.window.to_seconds(np.concatenate([np.empty((0, 2)), *frames])).clip(0.0, duration_s)  # [N, 2]
        scores = np.concatenate([np.empty(0), *(part.scores.double().numpy() for _, part in windows)])  # [N]
        labels = np.concatenate([np.empty(0, np.int64), *(part.labels.numpy() for _, part in windows)])  # [N]
        lasting = segments_s[:, 1] > segments_s[:, 0]
        segments_s, scores, labels = segments_s[lasting], scores[lasting], labels[lasting]
        kept = suppress(segments_s, scores, labels, self.inference.nms)
        rows = zip(segments_s[kept.row].tolist(), kept.score.tolist(), labels[kept.row].tolist(), strict=True)
        return [
            Detection(video=video, label=self.classes[label], start_s=start_s, end_s=end_s, score=score)
            for (start_s, end_s), score, label in rows
        ]


def spans_of(frames: Iterator[NDArray[Any]], spans: Iterable[tuple[int, int]]) -> Iterator[NDArray[Any]]:
    """Overlapping spans of a stream, `[end - start, ...]` each; what lies before the last one is let go.

    Args:
        frames: one after the other.
        spans: first frame and end of each, neither of them decreasing, none behind the end of the one before.
    """
    held: Sequence[NDArray[Any]] | NDArray[Any] = []
    first = 0  # number of the first that is held
    for start, end in spans:
        held = np.stack([*held[start - first :], *islice(frames, end - first - len(held))])
        first = start
        yield held
