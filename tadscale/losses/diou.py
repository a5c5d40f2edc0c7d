"""Distance-IoU loss of time segments."""

import torch
from torch import Tensor


def diou_loss(predicted: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """`1 - IoU + (distance of centres / length of hull)^2` (Zheng et al., AAAI 2020, eq. 7, in one dimension).

    Args:
        predicted: `[..., 2]` start and end.
        target: `[..., 2]` start and end.

    Returns:
        `[...]`, 0 for equal segments.
    """
    start, end = torch.maximum(predicted[..., 0], target[..., 0]), torch.minimum(predicted[..., 1], target[..., 1])
    intersection = (end - start).clamp(min=0)
    lengths = (predicted[..., 1] - predicted[..., 0]) + (target[..., 1] - target[..., 0])
    iou = intersection / (lengths - intersection).clamp(min=eps)
    hull = torch.maximum(predicted[..., 1], target[..., 1]) - torch.minimum(predicted[..., 0], target[..., 0])
    centres = (predicted.sum(-1) - target.sum(-1)) / 2
    return 1 - iou + (centres / hull.clamp(min=eps)) ** 2
