"""Motion that was computed before."""

import torch
from torch import Tensor

from tadscale.flow.codes import STEPS, ZERO

FINGERPRINT = "precomputed(8 bits)"
"""How the pictures were made, they do not say."""


class Precomputed:
    """Motion of two channels, u and v, out of the pictures that hold it (see `codes`)."""

    channels = 2
    span_frames = 0

    def __call__(self, frames: Tensor) -> Tensor:
        """Pictures `[B, T, H, W, 3]` uint8 -> flow `[B, 2, T, H, W]` float32 in [-1, 1], as `Motion` has it."""
        if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
            raise ValueError(
                f"precomputed motion comes as uint8 pictures of shape [B, T, H, W, 3], got {frames.dtype} "
                f"{list(frames.shape)}"
            )
        codes = frames[..., :2].movedim(-1, 1).float()  # [B, 2, T, H, W]
        return codes.sub_(ZERO).div_(STEPS).clamp_(-1.0, 1.0).contiguous()

    def fingerprint(self) -> str:
        """See `FINGERPRINT`."""
        return FINGERPRINT


def features_fingerprint(channels: int) -> str:
    """Of flow features; which network they are of, they do not say."""
    return f"features(channels={channels})"


class FlowFeatures:
    """Rows of flow features in place of motion: fields of one pixel a side.

    Args:
        channels: of a row.
    """

    span_frames = 0

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __call__(self, frames: Tensor) -> Tensor:
        """Rows `[B, T, C]` -> `[B, C, T, 1, 1]` float32, as they are: features have no bound."""
        if frames.ndim != 3 or frames.shape[-1] != self.channels:
            raise ValueError(f"flow features come as rows [B, T, {self.channels}], got {list(frames.shape)}")
        return frames.float().transpose(1, 2)[..., None, None].contiguous()

    def fingerprint(self) -> str:
        """See `features_fingerprint`."""
        return features_fingerprint(self.channels)
