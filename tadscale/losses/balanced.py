"""Weights under which the positives of a window count as much as its negatives, however few they are."""

from torch import Tensor


def balanced_weights(positive: Tensor, mask: Tensor) -> Tensor:
    """Weights that sum to 1/2 over what is positive and to 1/2 over what is not (Xu et al., CVPR 2020, sec. "G-TAD
    Training"; there over the batch, here within the window). A side with less than one element weighs less: a window
    without positives has weights of 1/2 in all.

    Args:
        positive: `[B, P]` in [0, 1]; between them an element belongs to both sides in part, as of a teacher's scores.
        mask: `[B, P]` bool; what does not exist weighs 0.

    Returns:
        `[B, P]`, not negative.
    """
    on, off = positive * mask, (1 - positive) * mask
    share_on, share_off = (side / side.sum(dim=1, keepdim=True).clamp(min=1.0) for side in (on, off))
    return (share_on + share_off) / 2
