"""Temporal deformable attention: each query reads few places of a feature pyramid, and chooses them itself."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tadscale.models.channels_last import Linear
from tadscale.models.heads.tadtr.sampling import interpolate


class Level(NamedTuple):
    """One level of a feature pyramid. Level l holds every 2^l-th step of the finest."""

    x: Tensor
    """`[B, L_l, D]`, zero where invalid."""
    valid: Tensor
    """`[B, L_l, 1]`, 0 or 1, in the type of `x`."""


class DeformableAttention(nn.Module):
    """Multi-head attention to `points` places of each level around a reference, found and weighted by the query.

    Temporal deformable attention (Liu et al., TIP 2022, sec. III), after Deformable DETR (Zhu et al., ICLR 2021, eq. 3)
    with time as the only dimension: offsets and weights are linear in the query, values between steps are interpolated.
    Linear in the number of queries and independent of the length.
    """

    def __init__(self, dim: int, *, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.shape = (heads, levels, points)
        reads = heads * levels * points
        self.offset = Linear(dim, reads)
        self.weight = Linear(dim, reads)
        self.value = Linear(dim, dim)
        self.out = Linear(dim, dim)
        self._start_evenly()

    def _start_evenly(self) -> None:
        """Heads share the places from `points` units back to as many ahead: each has a part of them, from end to end.

        Ours: with published starts (1, 2, ... units ahead, or as far back) heads of one side read the same, and what a head
        has read does not say how far from the centre it was, which a boundary is regressed from.
        """
        heads, _, points = self.shape
        places = (torch.arange(heads * points) + 0.5) / (heads * points) * 2 - 1  # in -1..1
        nn.init.normal_(self.offset.weight, std=0.01)
        self.offset.bias.data.copy_((points * places).view(heads, 1, points).expand(self.shape).flatten())
        nn.init.normal_(self.weight.weight, std=0.01)
        nn.init.zeros_(self.weight.bias)

    def forward(self, query: Tensor, centre: Tensor, unit: Tensor, pyramid: list[Level]) -> Tensor:
        """Queries to what they read.

        Args:
            query: `[B, P, D]`.
            centre: `[B, P]` reference of each query, in steps of the finest level.
            unit: how many of these steps an offset of 1 means; broadcasts to `[B, P, levels]`.
            pyramid: the levels, finest first.

        Returns:
            `[B, P, D]`.
        """
        offset = self.offset(query).unflatten(2, self.shape).to(centre.dtype)  # [B, P, H, levels, K]
        places = centre[:, :, None, None, None] + offset * unit[..., None, :, None]
        weight = self.weight(query).unflatten(2, (self.shape[0], -1)).softmax(dim=3).unflatten(3, self.shape[1:])
        read = [
            self._read(level, places[:, :, :, index] / 2**index, weight[:, :, :, index])
            for index, level in enumerate(pyramid)
        ]
        return self.out(torch.stack(read).sum(dim=0).to(query.dtype))

    def _read(self, level: Level, places: Tensor, weight: Tensor) -> Tensor:
        """One level's part: places in its steps and weights, both `[B, P, H, K]`, to `[B, P, D]`."""
        batch, queries, heads, points = places.shape
        value = (self.value(level.x) * level.valid).unflatten(2, (heads, -1))  # [B, L_l, H, d]
        sequences = value.transpose(1, 2).flatten(0, 1)  # [B * H, L_l, d]
        of_heads = places.transpose(1, 2).reshape(batch * heads, queries * points)
        found = interpolate(sequences, of_heads).unflatten(1, (queries, points))  # [B * H, P, K, d]
        weighted = found * weight.transpose(1, 2).flatten(0, 1).unsqueeze(3)
        return weighted.sum(dim=2).unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)
