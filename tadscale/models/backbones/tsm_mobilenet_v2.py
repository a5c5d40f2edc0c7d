"""MobileNetV2 with temporal shift: TSM's own network for mobile devices.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018 (Table 2); Lin, Gan, Han, TSM: Temporal
Shift Module, ICCV 2019: the blocks with a skip connection shift inside the residual branch, one eighth of the channels each
way. Parameter names are torchvision's.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from tadscale.models.backbones.base import Backbone
from tadscale.models.backbones.checkpointing import through
from tadscale.models.backbones.frozen_norm import FrozenBatchNorm2d
from tadscale.models.backbones.pooling import middle_frame, pool_time
from tadscale.models.backbones.published.loading import load_canonical
from tadscale.models.backbones.published.pictures import imagenet_normalised
from tadscale.models.backbones.published.settings import PublishedSettings
from tadscale.models.backbones.same_padding import pad_same
from tadscale.models.backbones.temporal_shift import Neighbour, ShiftedSettings, temporal_shift
from tadscale.weights import Match

STEM, LAST = 32, 1280  # channels of the first and the last convolution
# Expansion t, channels c, blocks n, stride s of the bottleneck stages: the paper's Table 2.
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STAGES = len(BOTTLENECKS) + 2
TENSORFLOW_EPS = 1e-3  # added to the variances of its MobileNetV2
HINT = "give MobileNetV2's weights at width 1.0, or choose the backbone that the file is of"


class TsmMobileNetV2Config(ShiftedSettings, PublishedSettings):
    """MobileNetV2 with temporal shift: 2.2 million parameters, made to start from published weights."""

    name: Literal["tsm_mobilenet_v2"] = "tsm_mobilenet_v2"
    """TSM (Lin, Gan, Han, ICCV 2019) on MobileNetV2 (Sandler et al., CVPR 2018)."""
    stride: PositiveInt = 2
    """Temporal stride r: frames per feature step."""
    shift: bool = True
    """Whether neighbouring frames exchange channels; without, every frame is seen alone."""
    normalisation: Literal["imagenet", "signed_unit"] = "imagenet"
    """How the start's network took pictures: less ImageNet's mean over its deviation (torchvision, TSM), or in [-1, 1]
    (TensorFlow)."""
    padding: Literal["torch", "tensorflow"] = "torch"
    """How the start's network padded at stride 2: evenly (torchvision, TSM), or as TensorFlow's SAME, which adds to even
    sizes one pixel right and below. The wrong one shifts features by a pixel."""
    frozen_stages: int = Field(default=0, ge=0, le=STAGES)
    """How many of the 9 stages stay as they were loaded, norms included: the first convolution, 7 stages of bottlenecks,
    the last convolution."""

    @property
    def frozen_by(self) -> str:
        """See `BackboneSettings`."""
        return "frozen_stages" if self.frozen_stages else ""

    def build(self, in_channels: int) -> "TsmMobileNetV2":
        """See `BackboneSettings`."""
        return TsmMobileNetV2(in_channels, self)


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: to `ceil(size / stride)` outputs, the odd pixel right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C_in, H, W]` to `[N, C_out, ceil(H / stride), ceil(W / stride)]`."""
        return super().forward(pad_same(x, self.kernel_size, self.stride))


class _Layers:
    """Makes the layers of one stage, as the settings have them."""

    def __init__(self, settings: TsmMobileNetV2Config, stage: int) -> None:
        self._same = settings.padding == "tensorflow"
        self._frozen = stage < settings.frozen_stages
        self._frozen_norm = settings.frozen_norm or self._frozen

    def conv(self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        """A convolution and its norm.

        It begins with variances that pass it unchanged (He et al., ICCV 2015): frozen norms would not restore them.
        """
        same = self._same and stride > 1  # at stride 1 both paddings are one
        kind, padding = (SameConv2d, 0) if same else (nn.Conv2d, kernel // 2)
        conv = kind(in_channels, channels, kernel, stride, padding, groups=groups, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        conv.requires_grad_(not self._frozen)
        return [conv, FrozenBatchNorm2d(channels) if self._frozen_norm else nn.BatchNorm2d(channels)]

    def activated(
        self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> nn.Sequential:
        """The same, and ReLU6."""
        return nn.Sequential(*self.conv(in_channels, channels, kernel, stride, groups), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, linear projection; around them a skip connection where sizes allow it."""

    def __init__(
        self, layers: _Layers, in_channels: int, channels: int, *, expansion: int, stride: int, first: Neighbour | None
    ) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self._skips = stride == 1 and in_channels == channels
        self._first: Neighbour | None = first if self._skips else None
        expand = [layers.activated(in_channels, hidden, 1)] if expansion > 1 else []
        depthwise = layers.activated(hidden, hidden, 3, stride, groups=hidden)
        project = layers.conv(hidden, channels, 1)
        nn.init.kaiming_normal_(project[0].get_parameter("weight"), nonlinearity="linear")
        self.conv = nn.Sequential(*expand, depthwise, *project)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """`[B * T, C_in, H, W]` to `[B * T, C, H / stride, W / stride]`."""
        out = self.conv(_channels_last(temporal_shift(x, frames, self._first)) if self._first else x)
        return x + out if self._skips else out


def _channels_last(x: Tensor) -> Tensor:
    """The same `[N, C, H, W]`, a pixel's channels side by side in memory: what depth-wise convolutions are quick in.

    Forward and backward over 2 x 160 frames of 80 pixels take 1.9 CPU-seconds so, 2.7 with the channels apart, 2.3 where the
    shift is left to undo it (`python -m benchmarks.memory_format`).
    """
    return x.contiguous(memory_format=torch.channels_last)


class TsmMobileNetV2(Backbone):
    """MobileNetV2 over every frame with temporal shift, averaged over space and over `stride` frames."""

    out_channels = LAST

    def __init__(self, in_channels: int, settings: TsmMobileNetV2Config) -> None:
        super().__init__()
        self.stride, self.offset = settings.stride, middle_frame(settings.stride)
        self._normalisation, self._tensorflow = settings.normalisation, settings.padding == "tensorflow"
        self._checkpoints = settings.checkpoint
        self._unseen = {name: getattr(settings, name) for name in ("shift", "shift_first", "normalisation", "padding")}
        first = settings.shift_first if settings.shift else None
        self.features = nn.ModuleList([_Layers(settings, 0).activated(in_channels, STEM, 3, 2)])
        before = STEM
        for stage, (expansion, channels, blocks, stride) in enumerate(BOTTLENECKS, 1):
            layers = _Layers(settings, stage)
            for n in range(blocks):
                shape = {"expansion": expansion, "stride": stride if n == 0 else 1}
                self.features.append(InvertedResidual(layers, before, channels, **shape, first=first))
                before = channels
        self.features.append(_Layers(settings, STAGES - 1).activated(before, LAST, 1))

    @property
    def unseen(self) -> dict[str, object]:
        """See `Backbone`."""
        return self._unseen

    def maps(self, video: Tensor) -> Tensor:
        """See `Backbone`: a 32nd of the picture a side, averaged over `stride` frames."""
        batch, frames = video.shape[0], video.shape[2]
        x = self.features[0](_channels_last(video.transpose(1, 2).flatten(0, 1)))  # [B*T, 32, H/2, W/2]
        for block in self.features[1:-1]:
            x = through(block, x, frames, saving=self._checkpoints)
        return pool_time(self.features[-1](x).unflatten(0, (batch, frames)), self.stride)

    def normalise(self, frames: Tensor) -> Tensor:
        """See `Backbone`: as the start's network took pictures."""
        return imagenet_normalised(frames) if self._normalisation == "imagenet" else super().normalise(frames)

    def load_published(self, tensors: Mapping[str, Tensor], where: str) -> Match:
        """See `Backbone`: torchvision's MobileNetV2, TSM's with or without shift, and TensorFlow's under those names."""
        match = load_canonical(self, tensors, where, first="features.0.0.weight", hint=HINT)
        if self._tensorflow:
            _widen(norm for norm in self.modules() if isinstance(norm, nn.BatchNorm2d))
        return match


def _widen(norms: Iterable[nn.BatchNorm2d]) -> None:
    """Add to variances what TensorFlow's network added before it took roots, over what is added here.

    Norms that were folded into gain and bias have variances of 1, and nothing was added to them. Left out where variances
    are as small as e^-5 it costs half of a feature's size.
    """
    for norm in norms:
        variance = norm.running_var
        assert variance is not None
        if not variance.eq(1).all():
            variance.add_(TENSORFLOW_EPS - norm.eps)
