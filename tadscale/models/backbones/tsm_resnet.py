"""ResNet-18 with temporal shift: a 2-D network that exchanges channels between neighbouring frames.

He et al., Deep Residual Learning, CVPR 2016; Lin, Gan, Han, TSM: Temporal Shift Module, ICCV 2019 (residual shift of one
eighth of the channels each way). Parameter names are torchvision's.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from tadscale.models.backbones.base import Backbone, BackboneSettings
from tadscale.models.backbones.frozen_norm import FrozenBatchNorm2d
from tadscale.models.backbones.published.loading import load_canonical
from tadscale.models.backbones.published.pictures import imagenet_normalised
from tadscale.weights import Match

NormName = Literal["group", "batch"]
Norm = Callable[[int], nn.Module]
HINT = "published weights of ResNet-18 want width 64 and norm: batch; else choose the backbone that the file is of"
SHIFTED_SHARE = 8  # one channel in eight moves forward in time, one in eight backward


class TsmResNet18Config(BackboneSettings):
    """ResNet-18 with temporal shift, for pictures of any size."""

    name: Literal["tsm_resnet18"] = "tsm_resnet18"
    """TSM (Lin, Gan, Han, ICCV 2019) on ResNet-18."""
    width: int = Field(default=16, ge=8, multiple_of=8)
    """Channels of the first stage; at full width 64. A multiple of 8, because an eighth of them is shifted."""
    stride: PositiveInt = 2
    """Temporal stride r: frames per feature step."""
    norm: NormName = "group"
    """`group` learns, and does not depend on how a batch is spread over workers. `batch` is for published weights: as it
    was loaded and frozen, and with it pictures are normalised as those weights' were (ImageNet's mean and deviation)."""

    def build(self, in_channels: int) -> "TsmResNet18":
        """See `BackboneSettings`."""
        return TsmResNet18(in_channels, width=self.width, stride=self.stride, norm=self.norm)


def temporal_shift(x: Tensor, frames: int) -> Tensor:
    """Shift an eighth of the channels one frame on, an eighth one frame back; zeros enter at the ends.

    Args:
        x: `[B * T, C, H, W]`, the frames of each clip adjacent.
        frames: T.
    """
    clip = x.unflatten(0, (-1, frames))  # [B, T, C, H, W]
    fold = x.shape[1] // SHIFTED_SHARE
    later = F.pad(clip[:, :-1, :fold], (0, 0, 0, 0, 0, 0, 1, 0))
    earlier = F.pad(clip[:, 1:, fold : 2 * fold], (0, 0, 0, 0, 0, 0, 0, 1))
    return torch.cat([later, earlier, clip[:, :, 2 * fold :]], dim=2).flatten(0, 1)


def pool_time(maps: Tensor, stride: int) -> Tensor:
    """Maps of single frames `[B, T, C, h, w]` averaged over `stride` frames, `[B, C, ceil(T / stride), h, w]`."""
    rows = maps.permute(0, 2, 3, 4, 1).flatten(1, 3)  # [B, C * h * w, T]
    pooled = F.avg_pool1d(rows, stride, ceil_mode=True).unflatten(1, maps.shape[2:])
    return pooled.permute(0, 1, 4, 2, 3)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(min(32, channels // 2), channels)


NORMS: dict[NormName, Norm] = {"group": _group_norm, "batch": FrozenBatchNorm2d}


class ShiftedBlock(nn.Module):
    """ResNet's basic block with the shift inside the residual branch, so the identity keeps the frame's own content."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = norm(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm(channels))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """`[B * T, C_in, H, W]` to `[B * T, C, H / stride, W / stride]`."""
        out = F.relu(self.bn1(self.conv1(temporal_shift(x, frames))))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class TsmResNet18(Backbone):
    """ResNet-18 over every frame with temporal shift in every block, averaged over space and over `stride` frames."""

    def __init__(self, in_channels: int, *, width: int, stride: int, norm: NormName = "group") -> None:
        super().__init__()
        make_norm = NORMS[norm]
        self._imagenet = norm == "batch"
        self.stride = stride
        self.out_channels = 8 * width
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = make_norm(width)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for stage in range(1, 5):
            before, after = widths[stage - 1], widths[stage]
            first = ShiftedBlock(before, after, stride=1 if stage == 1 else 2, norm=make_norm)
            second = ShiftedBlock(after, after, stride=1, norm=make_norm)
            self.add_module(f"layer{stage}", nn.ModuleList([first, second]))

    def maps(self, video: Tensor) -> Tensor:
        """See `Backbone`: a 32nd of the picture a side, averaged over `stride` frames."""
        batch, frames = video.shape[0], video.shape[2]
        x = video.transpose(1, 2).flatten(0, 1)  # [B*T, C_in, H, W]
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)  # [B*T, W, H/4, W/4]
        for stage in range(1, 5):
            for block in self.get_submodule(f"layer{stage}").children():
                x = block(x, frames)
        return pool_time(x.unflatten(0, (batch, frames)), self.stride)

    def normalise(self, frames: Tensor) -> Tensor:
        """See `Backbone`: in [-1, 1], with `norm: batch` as published weights' pictures were."""
        return imagenet_normalised(frames) if self._imagenet else super().normalise(frames)

    def load_published(self, tensors: Mapping[str, Tensor], where: str) -> Match:
        """See `Backbone`: torchvision's ResNet-18, and TSM's with or without shift; at width 64 with `norm: batch`."""
        return load_canonical(self, tensors, where, first="conv1.weight", hint=HINT)
