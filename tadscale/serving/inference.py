"""From windows to a video's detections: what evaluation and the exported model do alike, so that they agree."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn

from tadscale.config import Config
from tadscale.metrics.nms import NmsConfig, suppress
from tadscale.models.detector import rgb_input
from tadscale.models.heads.base import WindowDetections


class InferenceConfig(Config):
    """How detections are read off a trained network."""

    window_top_k: PositiveInt = 200
    """The most detections taken from one window, before suppression."""
    nms: NmsConfig = NmsConfig()
    """How the detections of a video's overlapping windows are thinned out; its `min_score` holds for windows, too."""


class VideoDetections(NamedTuple):
    """Detections of one video by descending score, as columns."""

    segments_s: NDArray[np.float64]
    """`[N, 2]` start and end, within the video."""
    scores: NDArray[np.float64]
    """`[N]`"""
    labels: NDArray[np.int64]
    """`[N]` class indices."""


@torch.inference_mode()
def detect_windows(network: nn.Module, frames: Tensor, mask: Tensor, config: InferenceConfig) -> list[WindowDetections]:
    """The detections of a batch of RGB windows.

    Args:
        network: a `Detector` on RGB or a `Student`, in eval mode.
        frames: `[B, T, H, W, 3]` uint8.
        mask: `[B, T]` bool, which frames exist.
        config: how many detections, and how good.

    Returns:
        One entry a window, on the CPU.
    """
    assert not network.training
    predictions = network.detect(rgb_input(frames), mask)  # type: ignore[operator]
    found = network.head.decode(predictions, top_k=config.window_top_k, min_score=config.nms.min_score)  # type: ignore[union-attr, operator]
    return [WindowDetections(*(column.cpu() for column in window)) for window in found]


def merge_windows(
    windows: Sequence[tuple[int, WindowDetections]], *, fps: float, duration_s: float, nms: NmsConfig
) -> VideoDetections:
    """The detections of one video, from those of its windows.

    Segments move from window to video, from sampled frames to seconds, and are clipped to the video; what has no length
    left is dropped; suppression merges what overlapping windows have both found.

    Args:
        windows: each window's first sampled frame and its detections, in the order of the windows.
        fps: sampled frames a second.
        duration_s: the video's length.
        nms: how overlaps are thinned out.

    Raises:
        ValueError: a score is NaN: the weights come from a run that diverged.
    """
    frames = [found.segments_frames.double().numpy() + start for start, found in windows]
    segments_s = (np.concatenate([np.empty((0, 2)), *frames]) / fps).clip(0.0, duration_s)  # [N, 2]
    scores = np.concatenate([np.empty(0), *(found.scores.double().numpy() for _, found in windows)])
    labels = np.concatenate([np.empty(0, np.int64), *(found.labels.numpy() for _, found in windows)])
    lasting = segments_s[:, 1] > segments_s[:, 0]
    segments_s, scores, labels = segments_s[lasting], scores[lasting], labels[lasting]
    kept = suppress(segments_s, scores, labels, nms)
    return VideoDetections(segments_s[kept.row], kept.score, labels[kept.row])
