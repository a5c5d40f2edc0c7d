"""RAFT's network (Teed and Deng, *RAFT: Recurrent All-Pairs Field Transforms for Optical Flow*, ECCV 2020).

Features of both frames at 1/8 of their size (section 3.1) are correlated, every position with every other (3.2). From zero,
a recurrent unit updates the flow again and again, each time from the correlations around the place that the flow points to
(3.3). The last flow is brought to full size. Sections and equations are the paper's.

Parameters have the names and shapes of torchvision's `raft_small` and `raft_large`, and mean the same, so that weights
published for those can be loaded; those of the authors' code are renamed (`layout`). Where they depart from the paper's
figures, they follow that code.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.flow.raft.encoder import Encoder, Kernel, Norm, conv_norm_relu, convolution
from tadscale.flow.raft.operations import (
    PYRAMID_LEVELS,
    STRIDE,
    correlation_pyramid,
    lookup,
    upsample_bilinear,
    upsample_convex,
)

MASK_SCALE = (
    0.25  # of the mask's logits: balances gradients in training (authors' code), and weights are trained for it
)

Variant = Literal["small", "large"]


@dataclass(frozen=True)
class Architecture:
    """Channels and kernels of a variant (drawn in the paper's appendix)."""

    bottleneck: bool
    """Of both encoders; see `Encoder`."""
    stages: tuple[int, int, int]
    """Of both encoders; see `Encoder`."""
    features: int
    """Channels that are correlated."""
    context_norm: Norm
    """After the context encoder's convolutions; the feature encoder's have instance norm."""
    hidden: int
    """Channels of the recurrent unit's state."""
    context: int
    """Channels that the context encoder gives the recurrent unit at every update, beside its first state."""
    radius: int
    """Of the neighbourhood that is looked up."""
    motion_correlation: tuple[int, ...]
    """Channels of the motion encoder's convolutions over correlations, 1x1 and then 3x3."""
    motion_flow: tuple[int, int]
    """Channels of those over the flow, 7x7 and 3x3."""
    motion: int
    """Channels of the motion encoder's result, of which two are the flow as it came."""
    gru_kernels: tuple[Kernel, ...]
    """One convolutional GRU for each."""
    head: int
    """Inner channels of the flow head."""
    mask: int | None
    """Inner channels of the head that predicts the mask of convex upsampling; None upsamples bilinearly."""


ARCHITECTURES: dict[Variant, Architecture] = {
    "small": Architecture(
        bottleneck=True,
        stages=(32, 64, 96),
        features=128,
        context_norm=None,
        hidden=96,
        context=64,
        radius=3,
        motion_correlation=(96,),
        motion_flow=(64, 32),
        motion=82,
        gru_kernels=((3, 3),),
        head=128,
        mask=None,
    ),
    "large": Architecture(
        bottleneck=False,
        stages=(64, 96, 128),
        features=256,
        context_norm=nn.BatchNorm2d,
        hidden=128,
        context=128,
        radius=4,
        motion_correlation=(256, 192),
        motion_flow=(128, 64),
        motion=128,
        gru_kernels=((1, 5), (5, 1)),
        head=256,
        mask=256,
    ),
}


class MotionEncoder(nn.Module):
    """Looked-up correlations and the flow itself, as features for the recurrent unit (section 3.3, "Inputs")."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        correlation, flow = architecture.motion_correlation, architecture.motion_flow
        self.convcorr1 = conv_norm_relu(PYRAMID_LEVELS * (2 * architecture.radius + 1) ** 2, correlation[0], 1)
        self.convcorr2: nn.Module = nn.Identity()
        if len(correlation) == 2:
            self.convcorr2 = conv_norm_relu(correlation[0], correlation[1], 3)
        self.convflow1 = conv_norm_relu(2, flow[0], 7)
        self.convflow2 = conv_norm_relu(flow[0], flow[1], 3)
        self.conv = conv_norm_relu(correlation[-1] + flow[1], architecture.motion - 2, 3)

    def forward(self, correlations: Tensor, flow: Tensor) -> Tensor:
        """`[B, levels * (2 * radius + 1)^2, h, w]` and `[B, 2, h, w]` -> `[B, motion, h, w]`."""
        parts = self.convcorr2(self.convcorr1(correlations)), self.convflow2(self.convflow1(flow))
        return torch.cat((self.conv(torch.cat(parts, dim=1)), flow), dim=1)


class ConvGru(nn.Module):
    """A gated recurrent unit whose layers are convolutions (section 3.3, equations 3 to 6)."""

    def __init__(self, hidden: int, inputs: int, kernel: Kernel) -> None:
        super().__init__()
        self.convz = convolution(hidden + inputs, hidden, kernel)
        self.convr = convolution(hidden + inputs, hidden, kernel)
        self.convq = convolution(hidden + inputs, hidden, kernel)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        """State `[B, hidden, h, w]` and input `[B, inputs, h, w]` -> the next state."""
        both = torch.cat((hidden, x), dim=1)
        update, reset = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        proposal = torch.tanh(self.convq(torch.cat((reset * hidden, x), dim=1)))
        return (1 - update) * hidden + update * proposal


class FlowHead(nn.Module):
    """State to a step of the flow (section 3.3, "Flow Prediction")."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.conv1 = convolution(hidden, inner, 3)
        self.conv2 = convolution(inner, 2, 3)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[B, hidden, h, w]` -> `[B, 2, h, w]` in positions."""
        return self.conv2(F.relu(self.conv1(hidden)))


class MaskPredictor(nn.Module):
    """State to the mask of convex upsampling (section 3.3, "Upsampling")."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.convrelu = conv_norm_relu(hidden, inner, 3)
        self.conv = convolution(inner, 9 * STRIDE * STRIDE, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[B, hidden, h, w]` -> `[B, 9 * 8 * 8, h, w]`."""
        return MASK_SCALE * self.conv(self.convrelu(hidden))


class UpdateBlock(nn.Module):
    """One update of state and flow (section 3.3)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        hidden, inputs = architecture.hidden, architecture.context + architecture.motion
        grus = [ConvGru(hidden, inputs, kernel) for kernel in architecture.gru_kernels]
        self.motion_encoder = MotionEncoder(architecture)
        self.recurrent_block = nn.ModuleDict({f"convgru{number}": gru for number, gru in enumerate(grus, start=1)})
        self.flow_head = FlowHead(hidden, architecture.head)

    def forward(self, hidden: Tensor, context: Tensor, correlations: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """State, context, correlations and flow `[B, :, h, w]` -> the next state, and the flow's step `[B, 2, h, w]`."""
        x = torch.cat((context, self.motion_encoder(correlations, flow)), dim=1)  # [B, inputs, h, w]
        for gru in self.recurrent_block.values():
            hidden = gru(hidden, x)
        return hidden, self.flow_head(hidden)


class RaftNetwork(nn.Module):
    """RAFT as a module.

    Args:
        variant: `small` (990,162 parameters) or `large` (5,257,536).
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.architecture = architecture = ARCHITECTURES[variant]
        hidden, context = architecture.hidden, architecture.context
        stages, bottleneck = architecture.stages, architecture.bottleneck
        self.feature_encoder = Encoder(stages, architecture.features, nn.InstanceNorm2d, bottleneck)
        self.context_encoder = Encoder(stages, hidden + context, architecture.context_norm, bottleneck)
        self.update_block = UpdateBlock(architecture)
        self.mask_predictor = MaskPredictor(hidden, architecture.mask) if architecture.mask else None

    def forward(self, frames_a: Tensor, frames_b: Tensor, updates: int) -> Tensor:
        """Displacement of every pixel of `frames_a` on its way to `frames_b`, after the last update.

        Args:
            frames_a: `[B, 3, H, W]` RGB in [-1, 1]; H and W multiples of 8, and at least `MIN_SIDE_PX`.
            frames_b: `[B, 3, H, W]`, the frames that follow.
            updates: how often the flow is updated.

        Returns:
            `[B, 2, H, W]` in pixels, x and y.
        """
        features_a, features_b = self.feature_encoder(torch.cat((frames_a, frames_b))).chunk(2)  # [B, D, h, w] each
        levels = correlation_pyramid(features_a, features_b)
        widths = (self.architecture.hidden, self.architecture.context)
        first, context = self.context_encoder(frames_a).split(widths, dim=1)
        hidden, context = torch.tanh(first), torch.relu(context)
        start = _positions(features_a)  # [2, h, w]
        flow = torch.zeros_like(features_a[:, :2])  # [B, 2, h, w]
        for _ in range(updates):
            correlations = lookup(levels, start + flow, self.architecture.radius)
            hidden, step = self.update_block(hidden, context, correlations, flow)
            flow = flow + step
        return (
            upsample_bilinear(flow)
            if self.mask_predictor is None
            else upsample_convex(flow, self.mask_predictor(hidden))
        )


def _positions(features: Tensor) -> Tensor:
    """x and y `[2, h, w]` of every position of a map `[B, D, h, w]`."""
    height, width = features.shape[-2:]
    x = torch.arange(width, dtype=features.dtype, device=features.device).expand(height, width)
    y = torch.arange(height, dtype=features.dtype, device=features.device)[:, None].expand(height, width)
    return torch.stack((x, y))
