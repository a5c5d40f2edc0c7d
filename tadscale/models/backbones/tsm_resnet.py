"""ResNets with temporal shift: 2-D networks that exchange channels between neighbouring frames.

He et al., Deep Residual Learning, CVPR 2016; Lin, Gan, Han, TSM: Temporal Shift Module, ICCV 2019 (residual shift of one
eighth of the channels each way, before the first convolution of every block). Parameter names are torchvision's, and as in
torchvision a bottleneck's stride is in its 3 x 3 convolution.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from tadscale.models.backbones.base import Backbone
from tadscale.models.backbones.checkpointing import through
from tadscale.models.backbones.frozen_norm import FrozenBatchNorm2d
from tadscale.models.backbones.initial import keep_variances
from tadscale.models.backbones.pooling import middle_frame, pool_time
from tadscale.models.backbones.published.loading import load_canonical
from tadscale.models.backbones.published.pictures import imagenet_normalised
from tadscale.models.backbones.published.settings import PublishedSettings
from tadscale.models.backbones.temporal_shift import Neighbour, ShiftedSettings, temporal_shift
from tadscale.weights import Match

NormName = Literal["group", "batch"]
Norm = Callable[[int], nn.Module]
PUBLISHED_WIDTH = 64


class TsmResNet18Config(ShiftedSettings):
    """ResNet-18 with temporal shift, for pictures of any size; narrow and normalised by groups, to learn from nothing."""

    name: Literal["tsm_resnet18"] = "tsm_resnet18"
    """TSM (Lin, Gan, Han, ICCV 2019) on ResNet-18."""
    width: int = Field(default=16, ge=8, multiple_of=8)
    """Channels of the first stage; at full width 64. A multiple of 8, because an eighth of them is shifted."""
    stride: PositiveInt = 2
    """Temporal stride r: frames per feature step."""
    norm: NormName = "group"
    """`group` learns, and does not depend on how a batch is spread over workers. `batch` is for published weights: as it
    was loaded and frozen, and with it pictures are normalised as those weights' were (ImageNet's mean and deviation)."""

    def build(self, in_channels: int) -> "TsmResNet":
        """See `BackboneSettings`."""
        norm = NORMS[self.norm]
        imagenet = self.norm == "batch"
        return TsmResNet(
            in_channels, 18, width=self.width, stride=self.stride, norm=norm, first=self.shift_first, imagenet=imagenet
        )


class _AsPublished(ShiftedSettings, PublishedSettings):
    """A ResNet with temporal shift as it was published."""

    width: int = Field(default=PUBLISHED_WIDTH, ge=8, multiple_of=8)
    """Channels of the first stage. Published weights want 64."""
    stride: PositiveInt = 2
    """Temporal stride r: frames per feature step."""

    def _build(self, in_channels: int, depth: int) -> "TsmResNet":
        norm: Norm = FrozenBatchNorm2d if self.frozen_norm else nn.BatchNorm2d
        network = TsmResNet(
            in_channels,
            depth,
            width=self.width,
            stride=self.stride,
            norm=norm,
            first=self.shift_first,
            saving=self.checkpoint,
        )
        blocks = [block for block in network.modules() if isinstance(block, Block)]
        keep_variances(network, [block.get_submodule(block.LAST) for block in blocks])
        return network


class TsmR18Config(_AsPublished):
    """ResNet-18 with temporal shift, 11.2 million parameters, made to start from published weights."""

    name: Literal["tsm_r18"] = "tsm_r18"
    """TSM (Lin, Gan, Han, ICCV 2019) on ResNet-18, full width and batch norm: `tsm_resnet18` is the one without a start."""

    def build(self, in_channels: int) -> "TsmResNet":
        """See `BackboneSettings`."""
        return self._build(in_channels, 18)


class TsmR50Config(_AsPublished):
    """ResNet-50 with temporal shift, 23.5 million parameters, made to start from published weights."""

    name: Literal["tsm_r50"] = "tsm_r50"
    """TSM (Lin, Gan, Han, ICCV 2019) on ResNet-50, its authors' own choice."""

    def build(self, in_channels: int) -> "TsmResNet":
        """See `BackboneSettings`."""
        return self._build(in_channels, 50)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(min(32, channels // 2), channels)


NORMS: dict[NormName, Norm] = {"group": _group_norm, "batch": FrozenBatchNorm2d}


def _downsample(in_channels: int, channels: int, stride: int, norm: Norm) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm(channels))


class ShiftedBlock(nn.Module):
    """ResNet's basic block with the shift inside the residual branch, so the identity keeps the frame's own content."""

    EXPANSION = 1
    LAST = "conv2"

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm, first: Neighbour) -> None:
        super().__init__()
        self._first: Neighbour = first
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = norm(channels)
        self.downsample = _downsample(in_channels, channels, stride, norm)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """`[B * T, C_in, H, W]` to `[B * T, C, H / stride, W / stride]`."""
        out = F.relu(self.bn1(self.conv1(temporal_shift(x, frames, self._first))))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class ShiftedBottleneck(nn.Module):
    """ResNet's bottleneck with the shift inside the residual branch, before the first convolution."""

    EXPANSION = 4
    LAST = "conv3"

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm, first: Neighbour) -> None:
        super().__init__()
        self._first: Neighbour = first
        inner = channels // self.EXPANSION
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = norm(channels)
        self.downsample = _downsample(in_channels, channels, stride, norm)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """`[B * T, C_in, H, W]` to `[B * T, C, H / stride, W / stride]`."""
        out = F.relu(self.bn1(self.conv1(temporal_shift(x, frames, self._first))))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


Block = ShiftedBlock | ShiftedBottleneck
# By depth: the kind of block, and how many of them each of the four stages has (He et al., Table 1).
STAGES: dict[int, tuple[type[Block], tuple[int, ...]]] = {
    18: (ShiftedBlock, (2, 2, 2, 2)),
    50: (ShiftedBottleneck, (3, 4, 6, 3)),
}


class TsmResNet(Backbone):
    """A ResNet over every frame with temporal shift in every block, averaged over space and over `stride` frames.

    Args:
        depth: 18 or 50.
        width: channels of the first convolution.
        first: which neighbour the first eighth of a block's channels is taken from.
        imagenet: whether pictures are normalised as ImageNet's were.
        saving: whether a block's insides are computed again on the way back.
    """

    def __init__(
        self,
        in_channels: int,
        depth: int,
        *,
        width: int,
        stride: int,
        norm: Norm,
        first: Neighbour,
        imagenet: bool = True,
        saving: bool = False,
    ) -> None:
        super().__init__()
        self._depth, self._imagenet, self._saving = depth, imagenet, saving
        self._shift_first = first
        self.stride, self.offset = stride, middle_frame(stride)
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = norm(width)
        kind, stages = STAGES[depth]
        before = width
        for stage, count in enumerate(stages, 1):
            channels = kind.EXPANSION * width * 2 ** (stage - 1)
            halves = 1 if stage == 1 else 2
            blocks = [kind(before, channels, halves, norm, first)]
            blocks += [kind(channels, channels, 1, norm, first) for _ in range(count - 1)]
            self.add_module(f"layer{stage}", nn.ModuleList(blocks))
            before = channels
        self.out_channels = before

    @property
    def unseen(self) -> dict[str, object]:
        """See `Backbone`."""
        return {"shift_first": self._shift_first}

    def maps(self, video: Tensor) -> Tensor:
        """See `Backbone`: a 32nd of the picture a side, averaged over `stride` frames."""
        batch, frames = video.shape[0], video.shape[2]
        x = video.transpose(1, 2).flatten(0, 1)  # [B*T, C_in, H, W]
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)  # [B*T, W, H/4, W/4]
        for stage in range(1, 5):
            for block in self.get_submodule(f"layer{stage}").children():
                x = through(block, x, frames, saving=self._saving)
        return pool_time(x.unflatten(0, (batch, frames)), self.stride)

    def normalise(self, frames: Tensor) -> Tensor:
        """See `Backbone`: as published weights' pictures were; in [-1, 1] where norms are by groups."""
        return imagenet_normalised(frames) if self._imagenet else super().normalise(frames)

    def load_published(self, tensors: Mapping[str, Tensor], where: str) -> Match:
        """See `Backbone`: torchvision's ResNet of its depth, and TSM's with or without shift; at width 64, batch norms."""
        hint = (
            f"published weights of ResNet-{self._depth} want width {PUBLISHED_WIDTH} and norm: batch, as tsm_r18 and "
            "tsm_r50 have them; else choose the backbone that the file is of"
        )
        return load_canonical(self, tensors, where, first="conv1.weight", hint=hint)
