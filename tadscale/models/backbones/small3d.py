"""A small 3-D network for small pictures."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from tadscale.models.backbones.base import Backbone, BackboneSettings


class Small3dConfig(BackboneSettings):
    """Three 3-D convolutions for small pictures: trains in minutes on two cores."""

    name: Literal["small3d"] = "small3d"
    """The demo's backbone."""
    width: int = Field(default=16, ge=4, multiple_of=4)
    """Channels of the first stage; a multiple of 4, because it is normalised by groups of four."""
    stride: PositiveInt = 2
    """Temporal stride r: frames per feature step."""

    def build(self, in_channels: int) -> "Small3d":
        """See `BackboneSettings`."""
        return Small3d(in_channels, width=self.width, stride=self.stride)


class Small3d(Backbone):
    """Three 3-D convolutions over a clip, averaged over space: the backbone of the demo.

    Why 3-D from the first layer: a network that is to learn motion from RGB must see several frames *before* space is
    pooled away. In an early study on data like sprites, a per-frame 2-D network and one with temporal shift stayed at 9
    and 11 mAP where a stem of 5 frames x 5 x 5 pixels reached 25 at the same cost.

    Normalised by groups, not by batch: the result does not depend on how a batch is spread over workers.
    """

    def __init__(self, in_channels: int, *, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.out_channels = 4 * width
        self.stem = nn.Conv3d(in_channels, width, (5, 5, 5), stride=(1, 2, 2), padding=2, bias=False)
        self.stem_norm = nn.GroupNorm(width // 4, width)
        self.middle = nn.Conv3d(width, 2 * width, 3, stride=(stride, 1, 1), padding=1, bias=False)
        self.middle_norm = nn.GroupNorm(width // 2, 2 * width)
        self.top = nn.Conv3d(2 * width, self.out_channels, 3, padding=(0, 1, 1), bias=False)  # time: see `_over_time`
        self.top_norm = nn.GroupNorm(width, self.out_channels)

    def maps(self, video: Tensor) -> Tensor:
        """See `Backbone`: an eighth of the picture a side."""
        x = F.relu(self.stem_norm(self.stem(video)))  # [B, W, T, H/2, W/2]
        x = F.max_pool3d(x, (1, 2, 2))  # [B, W, T, H/4, W/4]
        x = F.relu(self.middle_norm(self.middle(x)))  # [B, 2W, T/r, H/4, W/4]
        x = F.max_pool3d(x, (1, 2, 2))  # [B, 2W, T/r, H/8, W/8]
        return F.relu(self.top_norm(_over_time(self.top, x)))  # [B, 4W, T/r, H/8, W/8]


def _over_time(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A convolution of 3 steps over `[B, C, L, H, W]`, padded in time here; a batch of one as a batch of its two halves.

    The numbers are the same. Torch gives a 3 x 3 x 3 convolution to oneDNN only if the batch is larger than one or its
    input larger than 20,480 in batch x channels x time x height; one window of 160 frames at 56 pixels has 17,920, and
    its forward and backward pass took 26 ms instead of 6 (torch 2.13, one core).
    """
    length = x.shape[2]
    if x.shape[0] > 1:
        return conv(F.pad(x, (0, 0, 0, 0, 1, 1)))
    half = -(-length // 2)
    padded = F.pad(x, (0, 0, 0, 0, 1, 1 + 2 * half - length))  # [1, C, 2 * half + 2, H, W]
    halves = conv(torch.cat([padded[:, :, : half + 2], padded[:, :, half:]]))  # [2, C', half, H, W]
    return torch.cat(halves.split(1), dim=2)[:, :, :length]
