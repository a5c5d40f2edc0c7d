"""How G-TAD is taught: two confidences of every anchor, its class, and nodes at starts and ends; imitation; late fusion."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tadscale.losses.balanced import balanced_weights
from tadscale.losses.divergence import binary_divergence, class_divergence
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.gtad.network import GTADConfig
from tadscale.models.heads.objective import Objective, Targets
from tadscale.models.tiou import temporal_iou

POSITIVE_TIOU = 0.5
"""An anchor of a higher tIoU with an action is positive (Xu et al., CVPR 2020, sec. "G-TAD Training")."""
LOW_TIOU, HIGH_TIOU = 0.3, 0.7
"""Anchors up to the one, above the other and between them are regressed with equal weight (published code)."""


class AnchorTargets(NamedTuple):
    """What the anchors are taught."""

    tiou: Tensor
    """`[B, A]` highest tIoU with an action."""
    classes: Tensor
    """`[B, A, K]` distribution over the classes of the actions that make the anchor positive; 0 where none does."""


class GTADObjective(Objective):
    """Xu et al., CVPR 2020, sec. "G-TAD Training": weighted cross-entropies of the first confidence, of starts and of ends,
    and the mean squared error of the second; predictions are those of `GTADHead`."""

    def __init__(self, settings: GTADConfig, num_classes: int) -> None:
        self._settings = settings
        self._num_classes = num_classes

    def loss(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Cross-entropy of nodes and of anchors' first confidence, both balanced, squared error of their second, and
        (ours) cross-entropy of the class over the window's positive anchors, `[B]`."""
        anchors = self.assign(predictions["segments"], predictions["mask"], targets)
        positive = (anchors.tiou > POSITIVE_TIOU).to(anchors.tiou.dtype)  # [B, A]
        action, tiou = predictions["confidences"].unbind(dim=2)  # [B, A] each
        weights = balanced_weights(positive, predictions["mask"])
        found = F.binary_cross_entropy_with_logits(action, positive, reduction="none") * weights
        regressed = tiou_regression(torch.sigmoid(tiou), anchors.tiou, predictions["mask"])
        named = F.cross_entropy(
            predictions["logits"].transpose(1, 2), anchors.classes.transpose(1, 2), reduction="none"
        )
        named = (named * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        return self._nodes(predictions, targets) + found.sum(dim=1) + self._settings.iou_weight * regressed + named

    def assign(self, segments: Tensor, mask: Tensor, targets: Targets) -> AnchorTargets:
        """What anchors `[B, A, 2]` answer for: the action that they overlap most, and the classes of those that they
        overlap by more than half."""
        overlap = temporal_iou(segments.unsqueeze(2), targets.segments_frames.unsqueeze(1))  # [B, A, N]
        overlap = overlap * ((targets.labels >= 0)[:, None] & mask.unsqueeze(2))
        claims = overlap * (overlap > POSITIVE_TIOU)
        classes = F.one_hot(targets.labels.clamp(min=0), self._num_classes).to(overlap.dtype)  # [B, N, K]
        shares = torch.einsum("ban,bnk->bak", claims, classes)
        return AnchorTargets(overlap.amax(dim=2), shares / claims.sum(dim=2, keepdim=True).clamp(min=POSITIVE_TIOU))

    def _nodes(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Balanced cross-entropy of starts and of ends, `[B]`."""
        near = self.node_targets(predictions["points"], targets)  # [B, L, 2]
        entropy = F.binary_cross_entropy_with_logits(predictions["nodes"], near, reduction="none")
        weights = [balanced_weights(side, predictions["steps"]) for side in near.unbind(dim=2)]
        return (entropy * torch.stack(weights, dim=2)).sum(dim=(1, 2))

    def node_targets(self, points: Tensor, targets: Targets) -> Tensor:
        """Whether a start and an end is near each step: points `[B, L, 2]` (place, stride) to `[B, L, 2]` 0/1."""
        place, stride = points[..., 0, None, None], points[..., 1, None, None]  # [B, L, 1, 1]
        near = (place - targets.segments_frames[:, None]).abs() <= self._settings.node_radius * stride  # [B, L, N, 2]
        return (near & (targets.labels >= 0)[:, None, :, None]).any(dim=2).to(points.dtype)

    def imitate(self, student: Predictions, teacher: Predictions) -> Tensor:
        """Distance to all that the teacher says of anchors and nodes, `[B]`.

        The form is our choice (the paper of distillation does not publish one). Where there are actions is the teacher's
        word, and weighs as in `loss`: what it affirms counts as much as what it denies. Confidences and nodes by their
        divergence, tIoU by squared error, classes by their divergence where the teacher is confident.
        """
        mask = student["mask"]
        action, tiou = teacher["confidences"].detach().sigmoid().unbind(dim=2)  # [B, A] each
        found = binary_divergence(student["confidences"][..., 0], teacher["confidences"][..., 0])
        regressed = (student["confidences"][..., 1].sigmoid() - tiou).square()
        weights = balanced_weights(action, mask)
        anchors = ((found + self._settings.iou_weight * regressed) * weights).sum(dim=1)
        confidence = (action * tiou).sqrt() * mask
        named = class_divergence(student["logits"], teacher["logits"]) * confidence
        nodes = binary_divergence(student["nodes"], teacher["nodes"])  # [B, L, 2]
        at_nodes = [balanced_weights(side, student["steps"]) for side in teacher["nodes"].detach().sigmoid().unbind(2)]
        return (
            anchors
            + named.sum(dim=1) / confidence.sum(dim=1).clamp(min=1)
            + (nodes * torch.stack(at_nodes, dim=2)).sum(dim=(1, 2))
        )

    def fuse(self, predictions: list[Predictions]) -> Predictions:
        """Late fusion: the mean of all logits. Anchors are the same for detectors of one family."""
        fused = ("logits", "confidences", "nodes")
        return predictions[0] | {key: torch.stack([each[key] for each in predictions]).mean(dim=0) for key in fused}


def tiou_regression(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Half the squared error of tIoU `[B, A]`, the mean over three strata of the target's height, `[B]`.

    The published code draws as many anchors of middle and of low tIoU as there are of high; this is what it comes to on
    average, without chance. Anchors that touch no action are among the low (ours; there they are left out, and their
    tIoU is whatever it is).
    """
    error = 0.5 * (predicted - target).square()
    low, high = target <= LOW_TIOU, target > HIGH_TIOU
    strata = torch.stack([low, ~low & ~high, high]) & mask  # [3, B, A]
    return ((error * strata).sum(dim=2) / strata.sum(dim=2).clamp(min=1)).mean(dim=0)


def build(settings: GTADConfig, num_classes: int) -> GTADObjective:
    """See `build_objective`."""
    return GTADObjective(settings, num_classes)
