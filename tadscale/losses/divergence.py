"""Divergence of yes-or-no predictions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bernoulli_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of `sigmoid(logits)` from `sigmoid(teacher)`, element by element, any shape.

    Cross-entropy to soft targets less its least value: 0 where the two agree, however unsure the teacher is.

    Args:
        logits: of the prediction that is to come closer.
        teacher: logits of the same shape.
    """
    return torch.sigmoid(teacher) * (teacher - logits) + F.softplus(logits) - F.softplus(teacher)
