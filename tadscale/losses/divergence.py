"""How far predicted probabilities are from a teacher's: 0 where they are equal, whatever the teacher's doubt."""

import torch
import torch.nn.functional as F
from torch import Tensor


def binary_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two yes-or-no probabilities, from logits, element by element, any shape.

    Cross-entropy less the teacher's own entropy; no gradient flows into the teacher.
    """
    teacher = teacher.detach()
    target = torch.sigmoid(teacher)
    crossed = F.binary_cross_entropy_with_logits(student, target, reduction="none")
    return crossed - F.binary_cross_entropy_with_logits(teacher, target, reduction="none")


def class_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two softmax distributions, from logits `[..., K]` to `[...]`; none into the teacher."""
    student, teacher = student.log_softmax(dim=-1), teacher.detach().log_softmax(dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)
