"""What a backbone is."""

import torch
from torch import Tensor, nn

from tadscale.config import Config


class Backbone(nn.Module):
    """Video or motion `[B, C_in, T, H, W]` to features `[B, out_channels, ceil(T / stride)]`, pooled over space.

    What others need to know of it is said here and nowhere else: its width, its temporal stride, how pictures become its
    input.
    """

    out_channels: int
    """Channels of a feature vector."""
    stride: int
    """Temporal stride r: frames per feature step."""

    def normalise(self, frames: Tensor) -> Tensor:
        """Pictures `[B, T, H, W, 3]` uint8 as this backbone takes them: `[B, 3, T, H, W]` float32, by default in [-1, 1]."""
        return frames.permute(0, 4, 1, 2, 3).to(torch.float32) / 127.5 - 1.0

    def steps(self, mask: Tensor) -> Tensor:
        """Which feature steps exist: `[B, T]` to `[B, ceil(T / stride)]`, a step being valid if its first frame is."""
        return mask[:, :: self.stride]


def feature_stride(settings: "BackboneSettings") -> int:
    """Frames per feature step of the backbone that the settings describe, which says it itself; no memory is taken."""
    with torch.device("meta"):
        return settings.build(3).stride


class BackboneSettings(Config):
    """Base of a backbone's settings: a subclass gives `name` its default and builds the backbone."""

    name: str
    """The word by which a job chooses the backbone."""

    def build(self, in_channels: int) -> Backbone:
        """The untrained backbone for inputs of `in_channels`: 3 for RGB, 2 for flow."""
        raise NotImplementedError
