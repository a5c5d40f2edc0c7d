"""Rotary position: a product of two vectors that knows how far apart they stand."""

import torch
from torch import Tensor

SLOWEST_STEPS = 10_000.0
"""Wavelength of the slowest pair over 2 pi, in steps (the paper's); longer than any window."""


def rotated(x: Tensor) -> Tensor:
    """Turn each pair of channels by an angle that grows with the step (Su et al., RoFormer, 2021, eq. 15).

    The product of a query rotated at t and a key rotated at s depends on the two and on s - t alone, so the weights
    serve any length. Angles are computed in float32 whatever the input's type: bfloat16 knows no step 257.

    Args:
        x: `[..., L, D]`, D even; channel i is paired with channel i + D / 2.

    Returns:
        The same shape and type.
    """
    first, second = x.chunk(2, dim=-1)  # [..., L, D / 2]
    length, pairs = first.shape[-2:]
    steps = torch.arange(length, device=x.device, dtype=torch.float32)
    exponents = torch.arange(pairs, device=x.device, dtype=torch.float32) / pairs
    angles = steps.unsqueeze(1) * SLOWEST_STEPS**-exponents  # [L, D / 2]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
