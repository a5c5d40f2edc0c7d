"""Batch normalisation as it was published: statistics and affine of the file, never changed."""

from torch import nn


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over `[N, C, H, W]` that stays as it was loaded, whatever mode the network is in.

    A batch of detection holds a window or two for each worker, whose statistics are noise: neither is normalised by them
    nor are they kept. Gain and bias have no gradient. Before anything is loaded it is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        """Stay in evaluation mode."""
        return super().train(False)
