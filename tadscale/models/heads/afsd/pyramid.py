"""The feature pyramid (Lin et al., CVPR 2021, sec. 3), and all its levels laid end to end in one sequence (ours)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.channels_last import StepNorm
from tadscale.models.local_attention import TransformerBlock
from tadscale.models.temporal import ChannelNorm


class Moments(NamedTuple):
    """All levels end to end. Each is followed by one invalid moment, which is the zero padding between two levels for a
    convolution of width 3: what is shared by all levels then runs once, and no level sees its neighbour."""

    features: Tensor
    """`[B, D, P]`, zero where invalid."""
    mask: Tensor
    """`[B, P]` bool."""
    level: Tensor
    """`[P]` int64, 0 the finest."""
    step: Tensor
    """`[P]` int64, the moment's place in its level."""
    first: Tensor
    """`[P]` int64, where in the sequence the moment's level begins."""
    last: Tensor
    """`[P]` int64, where in the sequence the last step of the moment's level is."""

    def in_sequence(self, regions: Tensor) -> Tensor:
        """Regions `[B, P, 2]` in steps of each moment's own level, as steps of the sequence; cut to that level."""
        first, last = self.first.unsqueeze(1), self.last.unsqueeze(1)  # [P, 1]
        return (first + regions).clamp(first, last)


class FeaturePyramid(nn.Module):
    """A block of local attention a level, each of which halves the sequence.

    The published pyramid is a strided convolution a level, over features of a deep network with wide temporal context
    that is trained along. Behind a small backbone it learned far more slowly: 3 mAP after 200 steps on noisy features, with
    attention 5 (docs/method.md says what they are).
    """

    def __init__(self, in_dim: int, dim: int, *, levels: int, heads: int, reach: int) -> None:
        super().__init__()
        self.embed = ConvNorm(in_dim, dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, heads=heads, reach=reach, stride=min(level + 1, 2)) for level in range(levels)
        )
        self.norms = nn.ModuleList(StepNorm(dim) for _ in range(levels))

    def forward(self, features: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """`[B, D_in, L]` and `[B, L]` to each level's `[B, D, L_l]` and `[B, L_l]`, with L_l = ceil(L / 2^l)."""
        levels = []
        x = self.embed(features * mask.unsqueeze(1), mask).transpose(1, 2)  # [B, L, D]
        for block, norm in zip(self.blocks, self.norms, strict=True):
            x, mask = block(x, mask)
            levels.append(((norm(x) * mask.unsqueeze(2)).transpose(1, 2), mask))
        return levels


class ConvNorm(nn.Module):
    """A convolution of width 3, layer normalisation, ReLU; invalid steps are kept at zero.

    The published network normalises groups of channels over the whole window; that would make a window's padding part of
    its statistics.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_dim, dim, 3, padding=1, bias=False)
        self.norm = ChannelNorm(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, D_in, L]` and `[B, L]` to `[B, D, L]`."""
        return F.relu(self.norm(self.conv(x))) * mask.unsqueeze(1)


def lay_out(levels: list[tuple[Tensor, Tensor]]) -> Moments:
    """The levels of a pyramid, end to end."""
    device = levels[0][1].device
    lengths = [mask.shape[1] for _, mask in levels]
    sizes = torch.tensor([length + 1 for length in lengths], device=device)
    level = torch.cat([torch.full((length + 1,), index, device=device) for index, length in enumerate(lengths)])
    first = (sizes.cumsum(0) - sizes)[level]  # [P]
    return Moments(
        features=torch.cat([F.pad(x, (0, 1)) for x, _ in levels], dim=2),
        mask=torch.cat([F.pad(mask, (0, 1)) for _, mask in levels], dim=1),
        level=level,
        step=torch.arange(level.shape[0], device=device) - first,
        first=first,
        last=first + sizes[level] - 2,
    )
