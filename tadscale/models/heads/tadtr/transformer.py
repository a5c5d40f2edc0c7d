"""TadTR's layers: the encoder's, in which steps read steps, and the decoder's, in which action queries read steps."""

import torch
from torch import Tensor, nn

from tadscale.models.channels_last import Linear
from tadscale.models.heads.tadtr.deformable_attention import DeformableAttention, Level
from tadscale.models.heads.tadtr.query_attention import QueryAttention


class EncoderLayer(nn.Module):
    """Every step of every level reads places around itself (Liu et al., TIP 2022, sec. III); pre-norm, our choice."""

    def __init__(self, dim: int, *, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = DeformableAttention(dim, heads=heads, levels=levels, points=points)
        self.mlp = _mlp(dim)

    def forward(self, x: Tensor, position: Tensor, centre: Tensor, unit: Tensor, pyramid: list[Level]) -> Tensor:
        """Steps of all levels one after the other.

        Args:
            x: `[B, P, D]`.
            position: what tells steps apart, `[P, D]`.
            centre: `[B, P]`; see `DeformableAttention`.
            unit: see `DeformableAttention`.
            pyramid: the same steps, level by level.
        """
        normed = self.attention_norm(x)
        levels = [
            Level(part, level.valid)
            for part, level in zip(normed.split([level.x.shape[1] for level in pyramid], dim=1), pyramid, strict=True)
        ]
        x = x + self.attention(normed + position, centre, unit, levels)
        return x + self.mlp(x)


class DecoderLayer(nn.Module):
    """Queries see each other, so that one of them claims an action, then read the video around their segments' centres
    (Liu et al., TIP 2022, sec. III). A layer begins with a reach of a whole width to each side (ours; the authors' code, as
    Deformable DETR with boxes as references, has half of one: the segment itself)."""

    def __init__(self, dim: int, *, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.points = points
        self.self_norm = nn.LayerNorm(dim)
        self.self_attention = QueryAttention(dim, heads=heads)
        self.cross_norm = nn.LayerNorm(dim)
        self.cross_attention = DeformableAttention(dim, heads=heads, levels=levels, points=points)
        self.mlp = _mlp(dim)

    def forward(self, x: Tensor, position: Tensor, reference: Tensor, pyramid: list[Level]) -> Tensor:
        """Queries `[B, Q, D]`, what tells them apart (the same shape) and their segments to refined queries.

        Args:
            x: `[B, Q, D]`.
            position: `[B, Q, D]`.
            reference: `[B, Q, 2]` centre and width in steps. At the start the places read are the segment and half as much
                to each side.
            pyramid: the encoder's, finest level first.
        """
        centre, width = reference.unbind(2)  # [B, Q] each
        segments = torch.stack([centre - width / 2, centre + width / 2], dim=2)
        x = x + self.self_attention(self.self_norm(x), position, segments)
        unit = width.unsqueeze(2) / self.points  # `points` units reach a width to either side
        x = x + self.cross_attention(self.cross_norm(x) + position, centre, unit, pyramid)
        return x + self.mlp(x)


def _mlp(dim: int) -> nn.Sequential:
    """The feed-forward part, four times as wide within, as published."""
    return nn.Sequential(nn.LayerNorm(dim), Linear(dim, 4 * dim), nn.GELU(), Linear(4 * dim, dim))
