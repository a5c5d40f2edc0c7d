"""The balance of ground truth and distillation where they part: the gradients that each sends into the backbone.

At a fixed weight that suits a backbone which starts from nothing, distillation's gradient is tens of times ground truth's,
and a backbone that knew colour forgets it. So the two are measured at the split (the backbone's features), and that of
distillation may be held to a share of ground truth's.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

MEASURE_EVERY_STEPS = (
    10  # measuring costs two more backward passes through branches and heads, none through the backbone
)
SMALLEST_NORM = 1e-12
MEASURED = ("split_truth", "split_distill", "split_cosine")


class SharedSplit:
    """Parts features into two views, one for each signal, and joins their gradients: distillation's at `share` times the
    norm of ground truth's.

    Both gradients meet in one backward pass, which therefore costs no more than that of fixed weights; what was measured
    there is in `measured` after it.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.measured: dict[str, Tensor] = {}
        """As `describe_split`: set by the call, filled by the backward pass. Empty where no gradient is asked for."""

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The features `[B, C, L]` as ground truth sees them, and as distillation does."""
        if features.requires_grad:
            self.measured = {name: features.new_zeros((), dtype=torch.float32) for name in MEASURED}
        views: tuple[Tensor, Tensor] = _Part.apply(features, self)
        return views

    def join(self, of_truth: Tensor, of_distillation: Tensor) -> Tensor:
        """The gradient of the features from those of the views."""
        truth, distillation = of_truth.float(), of_distillation.float()
        for name, value in describe_split(truth, distillation).items():
            self.measured[name].copy_(value)
        factor = share_factor(truth, distillation, self.share)
        return of_truth + factor.to(of_truth) * of_distillation


class _Part(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, split: SharedSplit) -> tuple[Tensor, Tensor]:
        ctx.split = split
        return features.view_as(features), features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.split.join(*gradients), None


def split_gradients(model: nn.Module, features: Tensor, truth: Tensor, distillation: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of two losses at the features `[B, C, L]`; the graph is kept, and no parameter's gradient is touched.

    A model behind an engine that watches backward passes has a context `probing`, in which it looks away.
    """
    with getattr(model, "probing", nullcontext)():
        [of_truth] = torch.autograd.grad(truth, features, retain_graph=True)
        [of_distillation] = torch.autograd.grad(distillation, features, retain_graph=True)
    return of_truth.detach().float(), of_distillation.detach().float()


def describe_split(truth: Tensor, distillation: Tensor) -> dict[str, Tensor]:
    """Norms and cosine of the two gradients on this rank's windows."""
    norms = truth.norm().clamp(min=SMALLEST_NORM), distillation.norm().clamp(min=SMALLEST_NORM)
    return dict(zip(MEASURED, (*norms, (truth * distillation).sum() / (norms[0] * norms[1])), strict=True))


def share_factor(truth: Tensor, distillation: Tensor, share: float) -> Tensor:
    """What distillation's gradient is multiplied by, so that its norm is `share` times ground truth's.

    The norms are the global batch's: with any number of ranks the factor is the same. Where distillation sends nothing the
    factor is 1.
    """
    squares = torch.stack([truth.square().sum(), distillation.square().sum()])
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(squares)
    of_truth, of_distillation = squares.sqrt()
    factor = share * of_truth / of_distillation.clamp(min=SMALLEST_NORM)
    return torch.where(of_distillation > SMALLEST_NORM, factor, torch.ones_like(factor))
