"""Dice loss of masks."""

from torch import Tensor


def dice_loss(predicted: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """`1 - 2 sum(m g) / (sum(m^2) + sum(g^2))` (Milletari, Navab, Ahmadi, V-Net, 3DV 2016, sec. 3).

    It is the same for a mask of 3 steps and one of 30, where cross-entropy would be ruled by what is not the action.
    With squares below the line it is 0 at a soft target, too, and nowhere else.

    Args:
        predicted: `[..., L]` in [0, 1].
        target: `[..., L]` in [0, 1].

    Returns:
        `[...]` in [0, 1]; 1 where both are empty.
    """
    overlap = 2 * (predicted * target).sum(dim=-1)
    return 1 - overlap / (predicted.square().sum(dim=-1) + target.square().sum(dim=-1)).clamp(min=eps)
