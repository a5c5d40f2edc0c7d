"""Distillation of features."""

import torch.nn.functional as F
from torch import Tensor


def feature_distance(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance of channel-normalised features over valid steps, per window (form: our choice).

    Each time step is normalised over its channels first, so the student copies the pattern and not the scale: without
    it the loss is ruled by the few channels on which the teacher is loud.

    Args:
        student: `[B, D, L]`.
        teacher: `[B, D, L]`; no gradient flows into it.
        mask: `[B, L]` bool.

    Returns:
        `[B]`, in 0..4: 2 for unrelated features.
    """
    dim = student.shape[1]
    a = F.layer_norm(student.transpose(1, 2), (dim,))  # [B, L, D]
    b = F.layer_norm(teacher.detach().transpose(1, 2), (dim,))  # [B, L, D]
    distance = (a - b).square().mean(dim=2)  # [B, L]
    weight = mask.to(distance.dtype)
    return (distance * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
