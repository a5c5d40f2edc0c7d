"""Temporal IoU as torch has it: with a gradient, and between whole sets."""

import torch
from torch import Tensor


def temporal_iou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """Intersection over union of time segments.

    Args:
        first: `[..., 2]` start and end; broadcasts with `second`, so `[Q, 1, 2]` and `[N, 2]` give all pairs.
        second: `[..., 2]` start and end.
        eps: the least union; segments without a length have a tIoU of 0.

    Returns:
        `[...]`, in 0..1.
    """
    start, end = torch.maximum(first[..., 0], second[..., 0]), torch.minimum(first[..., 1], second[..., 1])
    intersection = (end - start).clamp(min=0)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - intersection
    return intersection / union.clamp(min=eps)
