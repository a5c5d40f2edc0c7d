"""What a detection head is as a network: the interface that every family fulfils, and the types it speaks."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from tadscale.config import Config
from tadscale.metrics.nms import NmsConfig

Predictions = dict[str, Tensor]
"""What a head puts out; the keys are the head's own, every value has the batch as its leading dimension."""


class WindowDetections(NamedTuple):
    """Detections of one window: segments `[N, 2]` in sampled frames from the window's start, scores `[N]`, labels `[N]`."""

    segments_frames: Tensor
    scores: Tensor
    labels: Tensor


class Head(nn.Module, ABC):
    """A detection head: features in, predictions out, detections read off them. How it is taught is its `Objective`'s."""

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor) -> Predictions:
        """Features `[B, D, L]` and validity `[B, L]` (bool) to predictions."""

    @abstractmethod
    def moments(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """What predictions mean: each moment (step, anchor, query) has a segment, and a score for each class.

        Plain tensor operations without a look at values: they are part of what is exported.

        Returns:
            Scores `[B, P, K]` in 0..1, 0 where a moment does not exist, and segments `[B, P, 2]` in sampled frames.
        """

    def decode(self, predictions: Predictions, *, top_k: int, min_score: float) -> list[WindowDetections]:
        """The best `top_k` detections of each window with a score of at least `min_score`, before suppression."""
        return best_moments(*self.moments(predictions), top_k=top_k, min_score=min_score)


def best_moments(scores: Tensor, segments: Tensor, *, top_k: int, min_score: float) -> list[WindowDetections]:
    """The best moment-and-class pairs of each window.

    Args:
        scores: `[B, P, K]` of `Head.moments`; what has 0 is never returned.
        segments: `[B, P, 2]` likewise.
        top_k: the most moment-and-class pairs of a window.
        min_score: the least score.

    Returns:
        An entry a window, by descending score.
    """
    detections = []
    for window in range(scores.shape[0]):
        best, flat = scores[window].flatten().topk(min(top_k, scores[window].numel()))
        found = (best >= min_score) & (best > 0)  # a score of 0 says that there is no such moment, whatever the limit
        flat, best = flat[found], best[found]
        moment, label = flat // scores.shape[2], flat % scores.shape[2]
        detections.append(WindowDetections(segments[window, moment], best, label))
    return detections


def check_attention(dim: int, heads: int) -> None:
    """Refuse attention heads that cannot share the channels evenly. Raises `ValueError`."""
    if dim % heads:
        raise ValueError(
            f"{heads} attention heads cannot share {dim} channels evenly: choose a number of heads that divides dim"
        )


class HeadSettings(Config):
    """Base of a head's settings: a subclass gives `name` its default and builds the head."""

    suppression: ClassVar[NmsConfig] = NmsConfig()
    """How this family's detections are thinned out, unless a job says otherwise: no setting, but where one's default is."""

    name: str
    """The word by which a job chooses the head."""

    def build(self, *, in_dim: int, num_classes: int, stride_frames: int) -> Head:
        """The untrained head on features of `in_dim` channels that stand `stride_frames` frames apart."""
        raise NotImplementedError
