"""Batch normalisation as it was published: statistics and affine of the file, never changed."""

from torch import nn


class _Frozen(nn.Module):
    """Stays in evaluation mode, whatever mode the network is in."""

    def freeze(self) -> None:
        """No gradient for gain and bias, and evaluation mode from now on."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "_Frozen":
        """Stay in evaluation mode."""
        return super().train(False)


class FrozenBatchNorm2d(_Frozen, nn.BatchNorm2d):
    """Batch normalisation over `[N, C, H, W]` that stays as it was loaded, whatever mode the network is in.

    A batch of detection holds a window or two for each worker, whose statistics are noise: neither is normalised by them
    nor are they kept. Gain and bias have no gradient. Before anything is loaded it is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.freeze()


class FrozenBatchNorm3d(_Frozen, nn.BatchNorm3d):
    """The same over `[N, C, T, H, W]`; `eps` is what the published network added to its variances."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)
        self.freeze()
