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
