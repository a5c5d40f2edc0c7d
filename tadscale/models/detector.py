"""The plain detector: backbone, temporal mapping, head. It is the teacher, the RGB baseline and the conventional student."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tadscale.models.backbones.base import Backbone
from tadscale.models.config import ModelConfig
from tadscale.models.heads.base import Predictions
from tadscale.models.temporal import TemporalMapping


class DetectorOutput(NamedTuple):
    """What a detector makes of a batch."""

    feature: Tensor
    """`[B, D, L]`, what the head reads and a student may imitate."""
    predictions: Predictions
    """The head's."""


class Detector(nn.Module):
    """One modality in, detections out."""

    def __init__(self, config: ModelConfig, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = config.backbone.build(in_channels)
        self.mapping = TemporalMapping(self.backbone.out_channels, config.dim)
        stride = self.backbone.stride
        self.head = config.head.build(in_dim=config.dim, num_classes=num_classes, stride_frames=stride)

    def forward(self, video: Tensor, mask: Tensor) -> DetectorOutput:
        """Pictures `[B, T, H, W, 3]` uint8, features `[B, T, C]` or motion `[B, C, T, H, W]`; valid frames `[B, T]`."""
        steps = self.backbone.steps(mask)  # [B, L]
        # float32 also under autocast: what a training mode measures at the split is asked of this very tensor.
        feature = self.mapping(self.backbone(as_input(self.backbone, video)), steps).float()  # [B, D, L]
        return DetectorOutput(feature, self.head(feature, steps))

    def detect(self, video: Tensor, mask: Tensor) -> Predictions:
        """Predictions alone: what inference asks of any network here."""
        return self.forward(video, mask).predictions


def as_input(backbone: Backbone, video: Tensor) -> Tensor:
    """What a backbone computes on: pictures (uint8) are normalised by it, motion is in [-1, 1] as it comes, and features
    `[B, T, C]` are a video of one pixel a side, `[B, C, T, 1, 1]`."""
    if video.ndim == 3:
        return video.transpose(1, 2)[..., None, None]
    return backbone.normalise(video) if video.dtype == torch.uint8 else video
