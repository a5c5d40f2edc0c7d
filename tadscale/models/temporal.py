"""The 1-D temporal mapping from backbone features to what a detector or a branch works on."""

import torch.nn.functional as F
from torch import Tensor, nn


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
        self.first = nn.Conv1d(in_channels, dim, 3, padding=1)
        self.first_norm = ChannelNorm(dim)
        self.second = nn.Conv1d(dim, dim, 3, padding=1)
        self.second_norm = ChannelNorm(dim)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Features `[B, C, L]`, mask `[B, L]`, to `[B, D, L]`."""
        valid = mask.unsqueeze(1).to(features.dtype)  # [B, 1, L]
        x = F.relu(self.first_norm(self.first(features * valid)))
        return F.relu(self.second_norm(self.second(x * valid))) * valid
