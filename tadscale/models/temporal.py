"""The 1-D temporal mapping from backbone features to what a detector or a branch works on."""

import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.channels_last import StepNorm, TimeConv


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each time step of `[B, D, L]`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, D, L]` to `[B, D, L]`."""
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


class TemporalMapping(nn.Module):
    """Two temporal convolutions of width 3 with layer normalisation; invalid steps are kept at zero."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.first = TimeConv(in_channels, dim, 3, padding=1)
        self.first_norm = StepNorm(dim)
        self.second = TimeConv(dim, dim, 3, padding=1)
        self.second_norm = StepNorm(dim)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Features `[B, C, L]`, mask `[B, L]`, to `[B, D, L]`."""
        valid = mask.unsqueeze(2).to(features.dtype)  # [B, L, 1]
        x = F.relu(self.first_norm(self.first(features.transpose(1, 2) * valid)))
        return (F.relu(self.second_norm(self.second(x * valid))) * valid).transpose(1, 2)
