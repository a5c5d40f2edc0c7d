"""Overlap of time segments, and the loss of it."""

import torch
from torch import Tensor


def temporal_iou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """Intersection over union of segments `[..., 2]`, element by element, `[...]` in 0..1."""
    start, end = torch.maximum(first[..., 0], second[..., 0]), torch.minimum(first[..., 1], second[..., 1])
    intersection = (end - start).clamp(min=0)
    lengths = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0])
    return intersection / (lengths - intersection).clamp(min=eps)


def tiou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """`1 - IoU`, 0 for equal segments (Yu et al., UnitBox, ACM MM 2016, without its logarithm), `[...]`.

    Of two segments that both hold their moment, the hull is the union: generalised IoU would be the same.
    """
    return 1 - temporal_iou(predicted, target)
