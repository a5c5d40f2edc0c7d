"""TadTR's encoder: features to a pyramid in which every step has seen what it needs of its surroundings."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.heads.tadtr.deformable_attention import Level
from tadscale.models.heads.tadtr.transformer import EncoderLayer
from tadscale.models.temporal import ChannelNorm


class Encoder(nn.Module):
    """Deformable self-attention over all steps of all levels (Liu et al., TIP 2022, sec. III, encoder).

    The embedding is a convolution of width 3 where the paper has one of width 1 (our choice): a boundary is a difference
    of neighbours, and the first layers need not learn to look for it.
    """

    def __init__(self, in_dim: int, dim: int, *, heads: int, levels: int, layers: int, points: int) -> None:
        super().__init__()
        self.dim = dim
        self.embed = nn.Conv1d(in_dim, dim, 3, padding=1)
        self.halve = nn.ModuleList(nn.Conv1d(dim, dim, 3, stride=2, padding=1) for _ in range(levels - 1))
        self.level_norms = nn.ModuleList(ChannelNorm(dim) for _ in range(levels))
        self.level_position = nn.Parameter(torch.randn(levels, dim) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(dim, heads=heads, levels=levels, points=points) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor, mask: Tensor) -> list[Level]:
        """Features `[B, D_in, L]` and validity `[B, L]` to levels of `[B, ceil(L / 2^l), D]`, zero where invalid."""
        pyramid = self._pyramid(features, mask)
        steps = [
            torch.arange(level.x.shape[1], device=mask.device, dtype=torch.float32) * 2**index
            for index, level in enumerate(pyramid)
        ]
        centre = torch.cat(steps)  # [P], all levels' steps one after the other
        centre = centre.to(torch.promote_types(features.dtype, torch.float32)).expand(mask.shape[0], -1)
        unit = 2.0 ** torch.arange(len(pyramid), device=mask.device, dtype=centre.dtype)  # an offset of 1: a step there
        position = sinusoids(centre[0], self.dim) + torch.cat(
            [own.expand(len(part), -1) for own, part in zip(self.level_position, steps, strict=True)]
        )
        x = torch.cat([level.x for level in pyramid], dim=1)  # [B, P, D]
        for layer in self.layers:
            x = layer(x, position.to(x.dtype), centre, unit, pyramid)
        return self._split(self.norm(x), pyramid)

    def _pyramid(self, features: Tensor, mask: Tensor) -> list[Level]:
        """The embedded features, and each level halved again."""
        valid = mask.unsqueeze(1).to(features.dtype)  # [B, 1, L]
        x = F.relu(self.level_norms[0](self.embed(features * valid))) * valid  # [B, D, L]
        levels = [Level(x.transpose(1, 2), valid.transpose(1, 2))]
        for halve, norm in zip(self.halve, self.level_norms[1:], strict=True):
            valid = valid[:, :, ::2]
            x = F.relu(norm(halve(x))) * valid
            levels.append(Level(x.transpose(1, 2), valid.transpose(1, 2)))
        return levels

    @staticmethod
    def _split(x: Tensor, pyramid: list[Level]) -> list[Level]:
        """`[B, P, D]` to levels again, with the same validity."""
        parts = x.split([level.x.shape[1] for level in pyramid], dim=1)
        return [Level(part * level.valid, level.valid) for part, level in zip(parts, pyramid, strict=True)]


def sinusoids(places: Tensor, dim: int) -> Tensor:
    """Sines and cosines of places in steps, wavelengths from 2 pi to 2 pi * 10,000 (Vaswani et al., 2017, sec. 3.5).

    Args:
        places: `[...]`.
        dim: channels.

    Returns:
        `[..., dim]`: sines, then cosines.
    """
    sines = (dim + 1) // 2
    rate = torch.exp(torch.arange(sines, device=places.device, dtype=places.dtype) * (-math.log(1e4) / max(sines, 1)))
    angle = places.unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[..., :dim]
