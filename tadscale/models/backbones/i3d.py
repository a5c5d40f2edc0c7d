"""I3D: Inception-v1 whose filters and pooling kernels were inflated into time.

Carreira, Zisserman, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset, CVPR 2017 (Section 2.4 and
Figure 3); Szegedy et al., Going Deeper with Convolutions, CVPR 2015. Layer and parameter names are those of the port to
PyTorch (pytorch-i3d), which are the original's end points.

How it is counted: the original checkpoints hold, for each of 57 convolutions, its weight and the norm's bias, mean and
variance (the norms have no gain), and weight and bias of the classifier of 400 classes: 230 tensors, 12,704,544 values for
RGB and 12,682,592 for flow, whose first convolution has a channel less. The port adds gains, which are 1.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tadscale.models.backbones.base import Backbone
from tadscale.models.backbones.checkpointing import through
from tadscale.models.backbones.frozen_norm import FrozenBatchNorm3d
from tadscale.models.backbones.initial import keep_variances
from tadscale.models.backbones.published.loading import load_canonical
from tadscale.models.backbones.published.settings import PublishedSettings
from tadscale.models.backbones.same_padding import pad_same
from tadscale.weights import Match

Size = tuple[int, int, int]
"""Over time, rows and columns."""
STEM = "Conv3d_1a_7x7"
PUBLISHED_WIDTH = 64
# Output channels of the six convolutions of a module: b0, b1a, b1b, b2a, b2b, b3b (GoogLeNet's Table 1).
MODULES: dict[str, tuple[int, ...]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Kernel and stride of the max pooling before a layer. The first two leave time alone (Section 2.4).
POOLED_BEFORE: dict[str, tuple[Size, Size]] = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
NORM_EPS = 1e-3  # Sonnet's, with which the weights were trained
HINT = (
    "published weights of I3D want width 64, and those on flow a network on motion; else choose the backbone that the file "
    "is of"
)


class I3dConfig(PublishedSettings):
    """I3D: 12.3 million parameters, a feature step every 8 frames, made to start from published weights."""

    name: Literal["i3d"] = "i3d"
    """Inception-v1 inflated into time (Carreira, Zisserman, CVPR 2017)."""
    width: int = Field(default=PUBLISHED_WIDTH, ge=8, multiple_of=8)
    """Channels of the first convolution; all others in proportion. Published weights want 64."""

    def build(self, in_channels: int) -> "I3d":
        """See `BackboneSettings`."""
        return I3d(in_channels, self)


def max_pool_same(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Max pooling padded as TensorFlow's SAME; zeros around maps that are never negative are as good as none."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


class Unit3d(nn.Module):
    """A convolution padded as TensorFlow's SAME, its norm, and ReLU."""

    def __init__(self, in_channels: int, channels: int, kernel: int, *, stride: int = 1, frozen_norm: bool) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, channels, kernel, stride, bias=False)
        norm = FrozenBatchNorm3d if frozen_norm else nn.BatchNorm3d
        self.bn = norm(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]` to `[B, C, ceil(T / stride), ceil(H / stride), ceil(W / stride)]`."""
        return F.relu(self.bn(self.conv3d(pad_same(x, self.conv3d.kernel_size, self.conv3d.stride))))


class Inception(nn.Module):
    """Four branches over the same maps, side by side: 1; 1 and 3; 1 and 3; pooling and 1."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], *, frozen_norm: bool) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.b0 = Unit3d(in_channels, b0, 1, frozen_norm=frozen_norm)
        self.b1a = Unit3d(in_channels, b1a, 1, frozen_norm=frozen_norm)
        self.b1b = Unit3d(b1a, b1b, 3, frozen_norm=frozen_norm)
        self.b2a = Unit3d(in_channels, b2a, 1, frozen_norm=frozen_norm)
        self.b2b = Unit3d(b2a, b2b, 3, frozen_norm=frozen_norm)
        self.b3b = Unit3d(in_channels, b3b, 1, frozen_norm=frozen_norm)
        self.out_channels = b0 + b1b + b2b + b3b

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]`, nowhere negative, to `[B, b0 + b1b + b2b + b3b, T, H, W]`."""
        pooled = max_pool_same(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class I3d(Backbone):
    """I3D to its last module, averaged over space alone.

    The original averages over two steps of time as well, before it classifies: a detector wants them apart. Each of the
    three layers that halve the time pads after the last frame more than before the first, whence the offset.
    """

    stride, offset = 8, 5.0

    def __init__(self, in_channels: int, settings: I3dConfig) -> None:
        super().__init__()
        self._checkpoints = settings.checkpoint
        width, frozen_norm = settings.width, settings.frozen_norm
        self.add_module(STEM, Unit3d(in_channels, width, 7, stride=2, frozen_norm=frozen_norm))
        self.add_module("Conv3d_2b_1x1", Unit3d(width, width, 1, frozen_norm=frozen_norm))
        self.add_module("Conv3d_2c_3x3", Unit3d(width, 3 * width, 3, frozen_norm=frozen_norm))
        channels = 3 * width
        for name, published in MODULES.items():
            widths = tuple(each * width // PUBLISHED_WIDTH for each in published)
            module = Inception(channels, widths, frozen_norm=frozen_norm)
            self.add_module(name, module)
            channels = module.out_channels
        self.out_channels = channels
        keep_variances(self)

    def maps(self, video: Tensor) -> Tensor:
        """See `Backbone`: a 32nd of the picture a side, `[B, 1024, ceil(T / 8), ceil(H / 32), ceil(W / 32)]`."""
        x = video
        for name, layer in self.named_children():
            if name in POOLED_BEFORE:
                x = max_pool_same(x, *POOLED_BEFORE[name])
            x = through(layer, x, saving=self._checkpoints)
        return x

    def load_published(self, tensors: Mapping[str, Tensor], where: str) -> Match:
        """See `Backbone`: pytorch-i3d's, those on RGB or, where this reads motion, those on flow."""
        return load_canonical(self, tensors, where, first=f"{STEM}.conv3d.weight", hint=HINT)
