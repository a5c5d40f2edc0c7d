"""ResNets over clips: R3D, whose every convolution sees 3 frames, MC3, whose stem and first stage do, and R(2+1)D, which
sees space first and then time.

Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018 (Table 1; Section 3.3 for mixed
convolutions, 3.5 for the width M_i inside a factorised one). Parameter names are torchvision's, whose 18 layers were trained
on Kinetics-400; the 34 layers are VMZ's, which IG-65M (Ghadiyaram et al., CVPR 2019) and TSP (Alwassel et al., ICCV
Workshops 2021) have trained: TSP's are the usual features of ActivityNet-1.3.

How it is counted: all parameters (not the norms' statistics), with the classifier of 400 classes: 33,371,472 of `r3d_18`,
11,695,440 of `mc3_18`, 31,505,325 of `r2plus1d_18` (torchvision's documentation).
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from tadscale.models.backbones.base import Backbone
from tadscale.models.backbones.checkpointing import through
from tadscale.models.backbones.frozen_norm import FrozenBatchNorm3d
from tadscale.models.backbones.initial import keep_variances
from tadscale.models.backbones.pooling import middle_frame, pool_time
from tadscale.models.backbones.published.loading import load_canonical
from tadscale.models.backbones.published.pictures import kinetics_normalised
from tadscale.models.backbones.published.settings import PublishedSettings
from tadscale.models.backbones.spacetime import (
    PUBLISHED_WIDTH,
    Block,
    Kind,
    Norm,
    group_norm,
    last_convolution,
    stem,
)
from tadscale.weights import Match

Stride = Literal[1, 2, 4, 8]
R3D: tuple[Kind, ...] = ("full", "full", "full", "full")
MC3: tuple[Kind, ...] = ("full", "space", "space", "space")
R2PLUS1D: tuple[Kind, ...] = ("factorised", "factorised", "factorised", "factorised")
STAGES = 4
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
OWN_WIDTH = 34  # the depth whose second convolutions have a width inside of their own: see `Block`
EPS = {18: 1e-5, 34: 1e-3}  # what the published norms add to their variances: torchvision's, and Caffe2's in VMZ
HINT = (
    "published weights of R3D-18, MC3-18, R(2+1)D-18 and R(2+1)D-34 want width 64 and norm: batch; else choose the backbone "
    "that the file is of"
)


class _Settings(PublishedSettings):
    """What all of them can be told."""

    width: int = Field(default=PUBLISHED_WIDTH, ge=8, multiple_of=8)
    """Channels of the stem; those of the four stages are 1, 2, 4 and 8 times as many. Published weights want 64."""
    stride: Stride = 8
    """Temporal stride r: frames per feature step. 8 as published; with 4, 2 or 1 the last, the last two or all three stages
    that halve the rate keep it, at the cost of as much more time."""
    norm: Literal["batch", "group"] = "batch"
    """`batch` is for published weights. `group` learns, from nothing, and does not depend on how a batch is spread over
    workers; `frozen_norm` does not concern it."""

    @property
    def counts_statistics(self) -> bool:
        """See `PublishedSettings`."""
        return self.norm == "batch" and super().counts_statistics

    def _norm(self, depth: int) -> Norm:
        if self.norm == "group":
            return group_norm
        kind = FrozenBatchNorm3d if self.frozen_norm else nn.BatchNorm3d
        return lambda channels: kind(channels, eps=EPS[depth])


class R3d18Config(_Settings):
    """R3D-18: 33 million parameters, a feature step every 8 frames, from published weights or, narrow, from nothing."""

    name: Literal["r3d_18"] = "r3d_18"
    """ResNet-18 with 3 x 3 x 3 convolutions (Tran et al., CVPR 2018)."""

    def build(self, in_channels: int) -> "VideoResNet":
        """See `BackboneSettings`."""
        return VideoResNet(in_channels, 18, self, self._norm(18), R3D)


class Mc318Config(_Settings):
    """MC3-18: 11 million parameters, from published weights or, narrow, from nothing."""

    name: Literal["mc3_18"] = "mc3_18"
    """ResNet-18 whose stem and first stage see 3 frames, and the others each frame by itself (Tran et al., CVPR 2018)."""
    stride: Stride = 8
    """Temporal stride r: frames per feature step. It sees every frame to its end, and is averaged over so many."""

    def build(self, in_channels: int) -> "VideoResNet":
        """See `BackboneSettings`."""
        return VideoResNet(in_channels, 18, self, self._norm(18), MC3)


class R2Plus1d18Config(_Settings):
    """R(2+1)D-18: 31 million parameters, a feature step every 8 frames, made to start from published weights."""

    name: Literal["r2plus1d_18"] = "r2plus1d_18"
    """ResNet-18 whose convolutions see space, then time (Tran et al., CVPR 2018)."""

    def build(self, in_channels: int) -> "VideoResNet":
        """See `BackboneSettings`."""
        return VideoResNet(in_channels, 18, self, self._norm(18), R2PLUS1D)


class R2Plus1d34Config(_Settings):
    """R(2+1)D-34: 63 million parameters, a feature step every 8 frames, made to start from IG-65M's or TSP's weights."""

    name: Literal["r2plus1d_34"] = "r2plus1d_34"
    """ResNet-34 whose convolutions see space, then time, as VMZ has it: what TSP trains."""

    def build(self, in_channels: int) -> "VideoResNet":
        """See `BackboneSettings`."""
        return VideoResNet(in_channels, 34, self, self._norm(34), R2PLUS1D)


class VideoResNet(Backbone):
    """R3D, MC3 or R(2+1)D to its last stage, averaged over space alone.

    Args:
        depth: 18 or 34.
        kinds: of each stage's convolutions; the stem is like the first.
    """

    def __init__(self, in_channels: int, depth: int, settings: _Settings, norm: Norm, kinds: tuple[Kind, ...]) -> None:
        super().__init__()
        self.stride, self._saving, self._published = settings.stride, settings.checkpoint, settings.norm == "batch"
        self.stem = stem(in_channels, settings.width, norm, factorised=kinds[0] == "factorised")
        before, rest = settings.width, int(settings.stride)
        for stage, (count, kind) in enumerate(zip(BLOCKS[depth], kinds, strict=True)):
            channels = settings.width * 2**stage
            over_time = 2 if stage and kind != "space" and rest > 1 else 1
            rest //= over_time
            strides = [(over_time, 2 if stage else 1), *[(1, 1)] * (count - 1)]
            blocks = []
            for stride in strides:
                blocks.append(Block(kind, before, channels, stride, norm, own_width=depth == OWN_WIDTH))
                before = channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.out_channels, self._averaged = before, rest
        self.offset = middle_frame(rest) * settings.stride / rest
        if self._published:
            keep_variances(self, [last_convolution(block) for block in self.modules() if isinstance(block, Block)])

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """See `Backbone`: of all four."""
        return tuple(self.out_channels // 2**n for n in reversed(range(STAGES)))

    def stages(self, video: Tensor) -> tuple[Tensor, ...]:
        """See `Backbone`: a 2nd, a 4th, an 8th and a 16th of the picture a side."""
        x = through(self.stem, video, saving=self._saving)
        maps = []
        for stage in range(STAGES):
            for block in self.get_submodule(f"layer{stage + 1}").children():
                x = through(block, x, saving=self._saving)
            maps.append(x)
        return (*maps[:-1], pool_time(x.transpose(1, 2), self._averaged) if self._averaged > 1 else x)

    def maps(self, video: Tensor) -> Tensor:
        """See `Backbone`: a 16th of the picture a side, `[B, 8 * width, ceil(T / stride), ceil(H / 16), ceil(W / 16)]`."""
        return self.stages(video)[-1]

    def normalise(self, frames: Tensor) -> Tensor:
        """See `Backbone`: as published weights' pictures were; in [-1, 1] where norms are by groups."""
        return kinetics_normalised(frames) if self._published else super().normalise(frames)

    def load_published(self, tensors: Mapping[str, Tensor], where: str) -> Match:
        """See `Backbone`: torchvision's, IG-65M's (its port to PyTorch), TSP's."""
        return load_canonical(self, tensors, where, first="stem.0.weight", hint=HINT)
