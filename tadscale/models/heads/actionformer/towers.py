"""Convolution towers that all levels of a pyramid share, run over the levels as one sequence.

They are the classification head and the regression head of ActionFormer (Zhang, Wu, Li, ECCV 2022, sec. 3). That the levels
are one sequence is ours.
"""

from typing import Self

import torch
from torch import Tensor, nn

from tadscale.models.channels_last import StepNorm, TimeConv


class JoinedLevels:
    """Levels one after the other with an empty step after each, which is all that a convolution of width 3 sees of a
    level's surroundings. One call for six levels reads a tower's weights once, and fills the processor where the upper
    levels alone (72 steps of 2304) do not. Steps that do not exist are empty as well."""

    def __init__(self, x: Tensor, real: Tensor, lengths: list[int]) -> None:
        self.x = x
        """`[B, M, D]`, M the steps of all levels and of the gaps."""
        self.real = real
        """`[B, M, 1]`, 0 in the gaps and where a step does not exist, 1 elsewhere."""
        self.lengths = lengths
        """Steps of each level."""

    @classmethod
    def of(cls, levels: list[Tensor], masks: list[Tensor]) -> Self:
        """Join `[B, L_l, D]` each, with validities `[B, L_l]`."""
        gap, none = levels[0].new_zeros(len(levels[0]), 1, levels[0].shape[2]), masks[0].new_zeros(len(masks[0]), 1)
        x = torch.cat([part for level in levels for part in (level, gap)], dim=1)
        real = torch.cat([part for mask in masks for part in (mask, none)], dim=1).unsqueeze(2).to(x.dtype)
        return cls(x * real, real, [level.shape[1] for level in levels])

    def without_gaps(self, x: Tensor) -> Tensor:
        """`[B, M, ...]` to the moments of all levels `[B, P, ...]`."""
        parts = x.split([length + 1 for length in self.lengths], dim=1)
        return torch.cat([part[:, :-1] for part in parts], dim=1)


class Tower(nn.Sequential):
    """Two convolutions, each with layer normalisation and ReLU, and a projection, as in the paper."""

    def __init__(self, dim: int, out: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [TimeConv(dim, dim, 3, padding=1, bias=False), StepNorm(dim), nn.ReLU(inplace=True)]
        super().__init__(*layers, TimeConv(dim, out, 3, padding=1))

    def forward(self, levels: JoinedLevels) -> Tensor:
        """Levels of D channels to `[B, P, out]`."""
        x = levels.x
        for layer in self:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                x = x * levels.real  # the norm's offset has filled what is empty
        return levels.without_gaps(x)
