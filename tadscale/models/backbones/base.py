"""What a backbone is."""

from torch import nn


class Backbone(nn.Module):
    """Video or motion `[B, C_in, T, H, W]` to features `[B, out_channels, ceil(T / stride)]`, pooled over space."""

    out_channels: int
    """Channels of a feature vector."""
    stride: int
    """Temporal stride r: frames per feature step."""
