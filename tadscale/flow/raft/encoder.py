"""RAFT's encoders: frames to maps of 1/8 of their size (Teed and Deng, ECCV 2020, section 3.1; see `network`)."""

import torch.nn.functional as F
from torch import Tensor, nn

Norm = type[nn.BatchNorm2d] | type[nn.InstanceNorm2d] | None
Kernel = tuple[int, int]


class Encoder(nn.Module):
    """The feature or the context encoder.

    Args:
        stages: channels of the stem and the first stage, of the second, of the third.
        out_channels: of the map.
        norm: after every convolution but the last.
        bottleneck: of all residual units; see `ResidualUnit`.
    """

    def __init__(self, stages: tuple[int, int, int], out_channels: int, norm: Norm, bottleneck: bool) -> None:
        super().__init__()
        first, second, third = stages
        self.convnormrelu = conv_norm_relu(3, first, 7, stride=2, norm=norm)
        self.layer1 = _stage(first, first, 1, norm, bottleneck)
        self.layer2 = _stage(first, second, 2, norm, bottleneck)
        self.layer3 = _stage(second, third, 2, norm, bottleneck)
        self.conv = convolution(third, out_channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames `[B, 3, H, W]` -> `[B, out_channels, H / 8, W / 8]`."""
        x = self.convnormrelu(frames)  # [B, first, H / 2, W / 2]
        return self.conv(self.layer3(self.layer2(self.layer1(x))))


class ResidualUnit(nn.Module):
    """Convolutions and a shortcut around them: the ReLU of their sum.

    Args:
        in_channels: of what comes in.
        out_channels: of the result.
        stride: of the unit. A stride of 1 leaves the shortcut without a convolution, so the channels must stay.
        norm: after every convolution.
        bottleneck: convolutions of 1x1, 3x3, 1x1 through a quarter of the channels, instead of 3x3, 3x3.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm, bottleneck: bool) -> None:
        super().__init__()
        self.convnormrelu3: nn.Module = nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if bottleneck:
            inner = out_channels // 4
            self.convnormrelu1 = conv_norm_relu(in_channels, inner, 1, norm=norm)
            self.convnormrelu2 = conv_norm_relu(inner, inner, 3, stride, norm)
            self.convnormrelu3 = conv_norm_relu(inner, out_channels, 1, norm=norm)
        else:
            self.convnormrelu1 = conv_norm_relu(in_channels, out_channels, 3, stride, norm)
            self.convnormrelu2 = conv_norm_relu(out_channels, out_channels, 3, norm=norm)
        if stride > 1:
            self.downsample = conv_norm_relu(in_channels, out_channels, 1, stride, norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, in_channels, h, w]` -> `[B, out_channels, h / stride, w / stride]`."""
        return F.relu(self.downsample(x) + self.convnormrelu3(self.convnormrelu2(self.convnormrelu1(x))))


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, norm: Norm = None, relu: bool = True
) -> nn.Sequential:
    """A convolution, then norm and ReLU where wanted."""
    layers: list[nn.Module] = [convolution(in_channels, out_channels, kernel, stride)]
    if norm:
        layers.append(norm(out_channels))
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def convolution(in_channels: int, out_channels: int, kernel: int | Kernel, stride: int = 1) -> nn.Conv2d:
    """A convolution with bias whose padding keeps the size, but for the stride."""
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return nn.Conv2d(in_channels, out_channels, (height, width), stride, padding=(height // 2, width // 2))


def _stage(in_channels: int, out_channels: int, stride: int, norm: Norm, bottleneck: bool) -> nn.Sequential:
    first = ResidualUnit(in_channels, out_channels, stride, norm, bottleneck)
    return nn.Sequential(first, ResidualUnit(out_channels, out_channels, 1, norm, bottleneck))
