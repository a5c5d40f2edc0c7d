"""What a detection head is: the interface that every head family fulfils, and the types it speaks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

Predictions = dict[str, Tensor]
"""What a head puts out; the keys are the head's own, every value has the batch as its leading dimension."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Ground truth of a batch of windows.

    Attributes:
        segments_frames: `[B, N, 2]` start and end in sampled frames from the window's first; float32.
        labels: `[B, N]` class index, -1 where there is no segment (padding); int64.
    """

    segments_frames: Tensor
    labels: Tensor

    def to(self, device: str) -> "Targets":
        """The same targets on `device`."""
        return Targets(segments_frames=self.segments_frames.to(device), labels=self.labels.to(device))


class WindowDetections(NamedTuple):
    """Detections of one window: segments `[N, 2]` in sampled frames from the window's start, scores `[N]`, labels `[N]`."""

    segments_frames: Tensor
    scores: Tensor
    labels: Tensor


class Head(nn.Module, ABC):
    """A detection head: features in, predictions out, and all that is particular to its family.

    Losses are returned per window and normalised within the window, never over the batch: the mean over the global
    batch is then the same however the batch is spread over workers.
    """

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor) -> Predictions:
        """Features `[B, D, L]` and validity `[B, L]` (bool) to predictions."""

    @abstractmethod
    def loss(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Supervised loss of each window, `[B]`."""

    @abstractmethod
    def imitate(self, student: Predictions, teacher: Predictions) -> Tensor:
        """How far the student's predictions are from the teacher's, per window, `[B]`. No gradient to the teacher."""

    @abstractmethod
    def fuse(self, predictions: list[Predictions]) -> Predictions:
        """Late fusion: one set of predictions from several detectors of this family (two-stream inference)."""

    @abstractmethod
    def decode(self, predictions: Predictions, *, top_k: int, min_score: float) -> list[WindowDetections]:
        """The best `top_k` detections of each window with a score of at least `min_score`, before suppression."""
