"""SlowFast: a pathway that sees few frames with many channels, and one that sees all of them with few.

Feichtenhofer, Fan, Malik, He, SlowFast Networks for Video Recognition, ICCV 2019 (Section 3, Table 1), on ResNet-50. The
sizes of the kernels are PySlowFast's for SLOWFAST_8x8_R50 and SLOWFAST_4x16_R50. Parameter names are torchvision's for a
ResNet, under `slow.` and `fast.`; what goes from fast to slow is `fuse1` to `fuse4`.

How it is counted: all parameters (not the norms' statistics), with the classifier of 400 classes on 2304 features: 34.57
million at 8x8, 34.48 at 4x16 (PyTorchVideo's model zoo). 922,000 of them are the classifier's.
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
from tadscale.models.backbones.pooling import pool_time
from tadscale.models.backbones.published.loading import load_canonical
from tadscale.models.backbones.published.pictures import pyslowfast_normalised
from tadscale.models.backbones.published.settings import PublishedSettings
from tadscale.weights import Match

BLOCKS = (3, 4, 6, 3)  # of the four stages: ResNet-50's
EXPANSION = 4  # output channels of a bottleneck over its inner ones
CHANNEL_RATIO = 8  # channels of the slow pathway over the fast one's: 1 / beta
FUSED_RATIO = 2  # channels that a fusion sends over the fast pathway's
# Temporal kernels of the stem and of the first convolution of the blocks of each stage: the slow pathway sees motion in the
# last two stages alone (Table 1).
SLOW_KERNELS = (1, 1, 1, 3, 3)
FAST_KERNELS = (5, 3, 3, 3, 3)
FUSION_KERNELS = {4: 7, 8: 5}  # by alpha
HINT = "published weights of SlowFast want width 64 and the alpha they were trained with (8x8: 4, 4x16: 8)"


class SlowFastR50Config(PublishedSettings):
    """SlowFast on ResNet-50: 33.6 million parameters, made to start from published weights."""

    name: Literal["slowfast_r50"] = "slowfast_r50"
    """SlowFast (Feichtenhofer et al., ICCV 2019); the features of both pathways, 2048 and 256."""
    alpha: Literal[4, 8] = 4
    """The slow pathway takes one frame in so many, and that is the temporal stride; 4 is the published 8x8, 8 the 4x16."""
    width: int = Field(default=64, ge=16, multiple_of=16)
    """Channels of the slow pathway's first convolution, an eighth of them the fast one's. Published weights want 64."""

    def build(self, in_channels: int) -> "SlowFastR50":
        """See `BackboneSettings`."""
        return SlowFastR50(in_channels, self)


class _Layers:
    """Makes convolutions and norms, as the settings have them."""

    def __init__(self, *, frozen_norm: bool) -> None:
        self.norm: type[nn.BatchNorm3d] = FrozenBatchNorm3d if frozen_norm else nn.BatchNorm3d

    def conv(
        self, in_channels: int, channels: int, time: int, space: int, *, stride: tuple[int, int] = (1, 1)
    ) -> nn.Conv3d:
        """Kernel `time` x `space` x `space`; its stride over time and over space."""
        padding = (time // 2, space // 2, space // 2)
        steps = (stride[0], stride[1], stride[1])
        return nn.Conv3d(in_channels, channels, (time, space, space), steps, padding, bias=False)


class Bottleneck(nn.Module):
    """ResNet's bottleneck; the first convolution is the one that sees time."""

    def __init__(self, layers: _Layers, in_channels: int, inner: int, *, time: int, stride: int) -> None:
        super().__init__()
        channels = EXPANSION * inner
        self.conv1, self.bn1 = layers.conv(in_channels, inner, time, 1), layers.norm(inner)
        self.conv2, self.bn2 = layers.conv(inner, inner, 1, 3, stride=(1, stride)), layers.norm(inner)
        self.conv3, self.bn3 = layers.conv(inner, channels, 1, 1), layers.norm(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            conv = layers.conv(in_channels, channels, 1, 1, stride=(1, stride))
            self.downsample = nn.Sequential(conv, layers.norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]` to `[B, 4 * inner, T, H / stride, W / stride]`."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class Pathway(nn.Module):
    """A ResNet-50 over time and space, whose stages are asked one by one, for between them something is fused.

    Args:
        width: channels of its first convolution.
        fused: channels that are added before each stage, over the pathway's own: 0 for the fast one.
    """

    def __init__(self, layers: _Layers, in_channels: int, width: int, kernels: tuple[int, ...], fused: float) -> None:
        super().__init__()
        self.conv1, self.bn1 = layers.conv(in_channels, width, kernels[0], 7, stride=(1, 2)), layers.norm(width)
        before = width
        for stage, blocks in enumerate(BLOCKS, 1):
            inner = width * 2 ** (stage - 1)
            first = Bottleneck(
                layers, before + int(fused * before), inner, time=kernels[stage], stride=1 if stage == 1 else 2
            )
            before = EXPANSION * inner
            others = [Bottleneck(layers, before, inner, time=kernels[stage], stride=1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.ModuleList([first, *others]))
        self.out_channels = before

    def stem(self, video: Tensor) -> Tensor:
        """`[B, C_in, T, H, W]` to `[B, width, T, H / 4, W / 4]`."""
        return F.max_pool3d(F.relu(self.bn1(self.conv1(video))), (1, 3, 3), (1, 2, 2), (0, 1, 1))

    def stage(self, number: int, x: Tensor, *, saving: bool) -> Tensor:
        """The blocks of stage 1 to 4; all but the first halve the maps' sides."""
        for block in self.get_submodule(f"layer{number}").children():
            x = through(block, x, saving=saving)
        return x


class Fusion(nn.Module):
    """What the slow pathway is told of the fast one: a convolution over time at the slow one's rate (Section 3.4).

    Its step k is centred at frame `alpha * k`, which is the frame that the slow pathway's step k sees.
    """

    def __init__(self, layers: _Layers, in_channels: int, alpha: int) -> None:
        super().__init__()
        self.conv = layers.conv(in_channels, FUSED_RATIO * in_channels, FUSION_KERNELS[alpha], 1, stride=(alpha, 1))
        self.bn = layers.norm(FUSED_RATIO * in_channels)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        """`[B, C, ceil(T / alpha), h, w]` and `[B, C', T, h, w]` to `[B, C + 2 * C', ceil(T / alpha), h, w]`."""
        return torch.cat([slow, F.relu(self.bn(self.conv(fast)))], dim=1)


class SlowFastR50(Backbone):
    """Both pathways over one window: the slow one takes every `alpha`-th frame, beginning with the first.

    PySlowFast spreads the slow pathway's frames evenly from the first to the last: of 32 frames 0, 4, 8, 13, ... 31. Here
    they are 0, 4, 8, 12, ... 28, so that a step means the same frames in a window of any length.
    """

    def __init__(self, in_channels: int, settings: SlowFastR50Config) -> None:
        super().__init__()
        self._checkpoints = settings.checkpoint
        self.stride = settings.alpha
        layers = _Layers(frozen_norm=settings.frozen_norm)
        slow, fast = settings.width, settings.width // CHANNEL_RATIO
        self.slow = Pathway(layers, in_channels, slow, SLOW_KERNELS, fused=FUSED_RATIO / CHANNEL_RATIO)
        self.fast = Pathway(layers, in_channels, fast, FAST_KERNELS, fused=0)
        # After the stem and the first three stages, whose widths are w, 4w, 8w and 16w.
        for n, widening in enumerate((1, 4, 8, 16), 1):
            fusion = Fusion(layers, widening * fast, settings.alpha)
            keep_variances(fusion)
            self.add_module(f"fuse{n}", fusion)
        self.out_channels = self.slow.out_channels + self.fast.out_channels
        for pathway in (self.slow, self.fast):
            keep_variances(pathway, [block.conv3 for block in pathway.modules() if isinstance(block, Bottleneck)])

    def maps(self, video: Tensor) -> Tensor:
        """See `Backbone`: a 32nd of the picture a side; the fast pathway's averaged over `alpha` frames."""
        slow = self.slow.stem(video[:, :, :: self.stride])  # [B, W, ceil(T / alpha), H/4, W/4]
        fast = self.fast.stem(video)  # [B, W/8, T, H/4, W/4]
        for n in range(1, len(BLOCKS) + 1):
            fused = self.get_submodule(f"fuse{n}")(slow, fast)
            slow = self.slow.stage(n, fused, saving=self._checkpoints)
            fast = self.fast.stage(n, fast, saving=self._checkpoints)
        return torch.cat([slow, pool_time(fast.transpose(1, 2), self.stride)], dim=1)

    def normalise(self, frames: Tensor) -> Tensor:
        """See `Backbone`: as PySlowFast's networks took pictures."""
        return pyslowfast_normalised(frames)

    def load_published(self, tensors: Mapping[str, Tensor], where: str) -> Match:
        """See `Backbone`: PyTorchVideo's files, which PySlowFast's model zoo lists (.pyth), and what PySlowFast itself
        saves. The zoo's other files of this network (.pkl) are Caffe2's, which PySlowFast converts."""
        return load_canonical(self, tensors, where, first=("slow.conv1.weight", "fast.conv1.weight"), hint=HINT)
