"""The plain detector: backbone, temporal mapping, head. It is the teacher, the RGB baseline and the conventional student."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tadscale.models.backbones import build_backbone
from tadscale.models.config import ModelConfig
from tadscale.models.heads import build_head
from tadscale.models.heads.base import Predictions
from tadscale.models.temporal import TemporalMapping


class DetectorOutput(NamedTuple):
    """Features `[B, D, L]`, where a student may imitate them, and the head's predictions."""

    feature: Tensor
    predictions: Predictions


class Detector(nn.Module):
    """One modality in, detections out."""

    def __init__(self, config: ModelConfig, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = build_backbone(config.backbone, in_channels)
        self.mapping = TemporalMapping(self.backbone.out_channels, config.dim)
        stride = config.backbone.stride
        self.head = build_head(config.head, in_dim=config.dim, num_classes=num_classes, stride_frames=stride)

    def forward(self, video: Tensor, mask: Tensor) -> DetectorOutput:
        """Video or motion `[B, C, T, H, W]`, valid frames `[B, T]`."""
        steps = feature_mask(mask, self.backbone.stride)
        feature = self.mapping(self.backbone(video), steps)
        return DetectorOutput(feature, self.head(feature, steps))

    def detect(self, video: Tensor, mask: Tensor) -> Predictions:
        """Predictions alone: what inference asks of any network here."""
        return self.forward(video, mask).predictions


def feature_mask(mask: Tensor, stride: int) -> Tensor:
    """Which feature steps exist: `[B, T]` to `[B, ceil(T / stride)]`, a step being valid if its first frame is."""
    return mask[:, ::stride]


def rgb_input(frames: Tensor) -> Tensor:
    """`[B, T, H, W, 3]` uint8 to what RGB networks take: `[B, 3, T, H, W]` float32 in [-1, 1]."""
    return frames.permute(0, 4, 1, 2, 3).to(torch.float32) / 127.5 - 1.0
