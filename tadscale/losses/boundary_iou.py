"""IoU loss of the boundaries of masks."""

import torch
import torch.nn.functional as F
from torch import Tensor


def boundary_iou_loss(predicted: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """`1 - IoU` of two masks' boundaries: their steps up and down, each as large as the mask changes there.

    Boundary IoU (Cheng et al., CVPR 2021) in one dimension; for soft masks IoU is the sum of minima over the sum of
    maxima. Where a mask reaches the end of the window, that end is its boundary.

    Args:
        predicted: `[..., L]` in [0, 1].
        target: `[..., L]` in [0, 1].

    Returns:
        `[...]` in [0, 1]; 1 where both are empty.
    """
    first, second = (F.pad(side, (1, 1)).diff(dim=-1).abs() for side in (predicted, target))  # [..., L + 1]
    union = torch.maximum(first, second).sum(dim=-1)
    return 1 - torch.minimum(first, second).sum(dim=-1) / union.clamp(min=eps)
