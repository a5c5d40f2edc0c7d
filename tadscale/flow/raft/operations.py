"""What RAFT does without parameters: correlate all positions, look correlations up, bring a flow to full size.

Sections and equations are those of Teed and Deng, ECCV 2020 (see `network`).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 8  # pixels of a frame to a position of a feature map, each way
PYRAMID_LEVELS = 4
MIN_SIDE_PX = STRIDE * 2**PYRAMID_LEVELS  # two positions a side on the coarsest level: one would have no extent


def correlation_pyramid(features_a: Tensor, features_b: Tensor) -> list[Tensor]:
    """All-pairs correlation and its poolings (section 3.2, equation 1).

    Args:
        features_a: `[B, D, h, w]`, features of the first frames.
        features_b: `[B, D, h, w]`, of the second ones.

    Returns:
        Level k: `[B * h * w, 1, h / 2^k, w / 2^k]`, for every position of `features_a` its scalar product with every
        position of `features_b`, over the square root of D (as the authors' code has it), pooled k times over 2 x 2
        positions.
    """
    batch, channels, height, width = features_a.shape
    scaled = features_a.flatten(2).transpose(1, 2) / math.sqrt(channels)  # [B, h * w, D]
    volume = scaled @ features_b.flatten(2)  # [B, h * w, h * w]
    levels = [volume.view(batch * height * width, 1, height, width)]
    while len(levels) < PYRAMID_LEVELS:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def lookup(levels: list[Tensor], positions: Tensor, radius: int) -> Tensor:
    """Correlations around the place that the flow points to, on every level (section 3.2, "Correlation Lookup").

    The authors' code takes all offsets of at most `radius` in x and in y, where the paper bounds their sum. Published
    weights expect levels in order, within a level x offsets in order, and within an x offset the y offsets.

    Args:
        levels: see `correlation_pyramid`.
        positions: `[B, 2, h, w]`, x and y in positions of the finest level.
        radius: of the neighbourhood, in positions of each level.

    Returns:
        `[B, len(levels) * (2 * radius + 1)^2, h, w]`, interpolated bilinearly, zero outside the map.
    """
    batch, _, height, width = positions.shape
    offsets = torch.arange(-radius, radius + 1, dtype=positions.dtype, device=positions.device)  # [k]
    x, y = positions.movedim(1, 0).reshape(2, -1, 1, 1)  # [B * h * w, 1, 1] each
    looked_up = []
    for level, volume in enumerate(levels):
        grid_x = _as_grid(x / 2**level + offsets[:, None], volume.shape[-1])  # [B * h * w, k, 1]
        grid_y = _as_grid(y / 2**level + offsets, volume.shape[-2])  # [B * h * w, 1, k]
        grid = torch.stack(torch.broadcast_tensors(grid_x, grid_y), dim=-1)  # [B * h * w, k, k, 2]
        looked_up.append(F.grid_sample(volume, grid, align_corners=True).view(batch, height, width, -1))
    return torch.cat(looked_up, dim=-1).movedim(-1, 1).contiguous()


def upsample_convex(flow: Tensor, mask: Tensor) -> Tensor:
    """Full size, every pixel as a convex combination of the 3 x 3 coarse flows around it (section 3.3, "Upsampling").

    Args:
        flow: `[B, 2, h, w]` in positions.
        mask: `[B, 9 * 8 * 8, h, w]`, for every neighbour and every pixel of a position the logarithm of a weight.

    Returns:
        `[B, 2, 8 * h, 8 * w]` in pixels. Beyond the border the coarse flow is zero.
    """
    batch, _, height, width = flow.shape
    weights = mask.view(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(dim=2)
    neighbours = F.unfold(STRIDE * flow, 3, padding=1).view(batch, 2, 9, 1, 1, height, width)
    pixels = (weights * neighbours).sum(dim=2)  # [B, 2, 8, 8, h, w]
    return pixels.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, STRIDE * height, STRIDE * width)


def upsample_bilinear(flow: Tensor) -> Tensor:
    """Flow `[B, 2, h, w]` in positions -> `[B, 2, 8 * h, 8 * w]` in pixels, corners on corners as the authors have it."""
    return STRIDE * F.interpolate(flow, scale_factor=STRIDE, mode="bilinear", align_corners=True)


def _as_grid(positions: Tensor, size: int) -> Tensor:
    """Positions 0 to size - 1 as grid_sample wants them: -1 to 1."""
    return positions * (2 / (size - 1)) - 1
