"""Focal losses on sigmoid outputs."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of Lin et al. (ICCV 2017, eq. 5) for 0/1 targets, element by element, any shape."""
    p = torch.sigmoid(logits)
    hit = p * targets + (1 - p) * (1 - targets)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * (1 - hit) ** gamma * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def quality_focal(logits: Tensor, targets: Tensor, *, beta: float = 2.0) -> Tensor:
    """Quality focal loss of Li et al. (NeurIPS 2020, eq. 4) for soft targets in [0, 1], element by element.

    `|y - sigmoid(x)|^beta * BCE(x, y)`: zero where the prediction equals the target, whatever the target is, so a
    teacher's easy negatives, which are nearly all of its outputs, weigh nothing.
    """
    distance = (targets - torch.sigmoid(logits)).abs()
    return distance**beta * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
