"""Binary cross-entropy of masks in which foreground and background weigh alike."""

import torch.nn.functional as F
from torch import Tensor


def balanced_bce(logits: Tensor, targets: Tensor, mask: Tensor, eps: float = 1e-6) -> Tensor:
    """Half the mean cross-entropy of the foreground plus half that of the background.

    Args:
        logits: `[..., L]`.
        targets: `[..., L]` in [0, 1]; a soft one counts to both sides in its share.
        mask: `[..., L]` bool, the steps that count; broadcast.

    Returns:
        `[...]`; a side that does not occur weighs nothing.
    """
    foreground, background = targets * mask, (1 - targets) * mask  # [..., L]
    missed = (F.softplus(-logits) * foreground).sum(dim=-1) / foreground.sum(dim=-1).clamp(min=eps)
    invented = (F.softplus(logits) * background).sum(dim=-1) / background.sum(dim=-1).clamp(min=eps)
    return (missed + invented) / 2
