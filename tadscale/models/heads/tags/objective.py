"""How TAGS is taught: classes, masks and their boundaries, agreement of the two branches; imitation, late fusion."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tadscale.losses.balanced_bce import balanced_bce
from tadscale.losses.boundary_iou import boundary_iou_loss
from tadscale.losses.dice import dice_loss
from tadscale.losses.divergence import binary_divergence, class_divergence
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Objective, Targets
from tadscale.models.heads.tags.network import TagsConfig


class SnippetTargets(NamedTuple):
    """What each snippet answers for."""

    labels: Tensor
    """`[B, L]` class index, K for background; int64."""
    masks: Tensor
    """`[B, L, L]` the share of each step that belongs to the snippet's action; zero in rows of background."""
    foreground: Tensor
    """`[B, L]` bool."""


class TagsObjective(Objective):
    """Nag et al., ECCV 2022, sec. 3.3; predictions are those of `TagsHead`."""

    def __init__(self, settings: TagsConfig, num_classes: int) -> None:
        self._settings = settings
        self._num_classes = num_classes

    def loss(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Class loss over the window's snippets, mask loss over those in an action, branch consistency; `[B]`."""
        assigned = self.assign(predictions["cells"], predictions["mask"], targets)
        stepwise = balanced_bce(predictions["masks"].float(), assigned.masks, predictions["mask"].unsqueeze(1))
        masks = _mean(self._mask_loss(stepwise, _masks(predictions), assigned.masks), assigned.foreground)
        consistency = self._settings.consistency_weight * branch_distance(predictions)
        return self._class_loss(predictions, assigned.labels) + masks + consistency

    def assign(self, cells: Tensor, mask: Tensor, targets: Targets) -> SnippetTargets:
        """Which snippet answers for which action: the shortest that covers half of it.

        The paper's masks are 0 or 1; ours hold the share of a step that the action covers, so that a boundary between
        two steps is told. An action that covers half of no step belongs to the step that it covers most.
        """
        start, end = cells[:, None, :, 0], cells[:, None, :, 1]  # [B, 1, L]
        first, last = targets.segments_frames.unbind(dim=2)  # [B, N]
        overlap = (torch.minimum(end, last.unsqueeze(2)) - torch.maximum(start, first.unsqueeze(2))).clamp(min=0)
        exists = (targets.labels >= 0).unsqueeze(2) & mask.unsqueeze(1)  # [B, N, L]
        cover = overlap / (end - start) * exists  # [B, N, L], in [0, 1]
        claims = (cover > 0) & (cover >= cover.amax(dim=2, keepdim=True).clamp(max=0.5))
        length = (last - first).unsqueeze(2).expand_as(cover).masked_fill(~claims, torch.inf)
        shortest, foreground = length.argmin(dim=1), claims.any(dim=1)  # [B, L]
        labels = targets.labels.gather(1, shortest).masked_fill(~foreground, self._num_classes)
        masks = cover.gather(1, shortest.unsqueeze(2).expand(-1, -1, cover.shape[2])) * foreground.unsqueeze(2)
        return SnippetTargets(labels, masks, foreground)

    def _class_loss(self, predictions: Predictions, labels: Tensor) -> Tensor:
        """Focal loss on the softmax over classes and background (Lin et al., ICCV 2017), mean over snippets; `[B]`."""
        chosen = _log_classes(predictions).gather(2, labels.unsqueeze(2)).squeeze(2)  # [B, L]
        return _mean(-chosen * (1 - chosen.exp()) ** self._settings.focal_gamma, predictions["mask"])

    def _mask_loss(self, stepwise: Tensor, masks: Tensor, targets: Tensor) -> Tensor:
        """What each snippet's mask `[B, L, L]` costs, of which `[B, L]` step by step; `[B, L]`."""
        share, boundary = self._settings.dice_share, self._settings.boundary_weight
        whole = share * dice_loss(masks, targets) + (1 - share) * stepwise
        return whole + boundary * boundary_iou_loss(masks, targets)

    def imitate(self, student: Predictions, teacher: Predictions) -> Tensor:
        """Divergence from the teacher's classes plus the mask loss to its masks where it sees an action; `[B]`.

        The form is our choice. Classes: KL divergence of the student's distribution from the teacher's, mean over
        snippets. Masks: dice and boundaries as with ground truth, and step by step the KL divergence, all of which are 0
        at the teacher's soft masks (balanced cross-entropy is not least there). A snippet's mask counts by the
        probability that the teacher gives to an action in it, over their sum (at least 1).
        """
        teacher = {name: value.detach() for name, value in teacher.items()}
        classes = class_divergence(student["logits"].float(), teacher["logits"].float())  # [B, L]
        confidence = actionness(teacher)  # [B, L]
        steps = binary_divergence(student["masks"].float(), teacher["masks"].float())  # [B, L, L]
        stepwise = _mean(steps, student["mask"].unsqueeze(1))  # [B, L]
        masks = (self._mask_loss(stepwise, _masks(student), _masks(teacher)) * confidence).sum(dim=1)
        return _mean(classes, student["mask"]) + masks / confidence.sum(dim=1).clamp(min=1)

    def fuse(self, predictions: list[Predictions]) -> Predictions:
        """Late fusion: mean of the logits of classes and masks (a product of experts on each)."""
        fused = {name: torch.stack([each[name] for each in predictions]).mean(dim=0) for name in ("logits", "masks")}
        return predictions[0] | fused


def actionness(predictions: Predictions) -> Tensor:
    """The probability of each snippet not to be background, `[B, L]`; 0 where there is none."""
    return (1 - _log_classes(predictions)[..., -1].exp()) * predictions["mask"]


def branch_distance(predictions: Predictions) -> Tensor:
    """How far apart the two branches are about where there is action: `1 - cos` of their profiles over time, `[B]`.

    The paper's inter-branch consistency compares the mean embeddings of the snippets that each branch picks out by a
    threshold; that sends no gradient into the branches. We compare what they say: the class branch's probability of an
    action, and, of the masks of all snippets, the strongest at each step, each counting by its snippet's probability.
    """
    classes = actionness(predictions)  # [B, L]
    masks = (classes.unsqueeze(2) * _masks(predictions)).amax(dim=1)  # [B, L]
    return 1 - F.cosine_similarity(classes, masks, dim=1)


def _log_classes(predictions: Predictions) -> Tensor:
    """`[B, L, K + 1]`, float32."""
    return predictions["logits"].float().log_softmax(dim=2)


def _masks(predictions: Predictions) -> Tensor:
    """`[B, L, L]` in [0, 1], 0 at steps that do not exist; float32."""
    return torch.sigmoid(predictions["masks"].float()) * predictions["mask"].unsqueeze(1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over the snippets that exist: `[..., L]` to `[...]`."""
    return (values * mask).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def build(settings: TagsConfig, num_classes: int) -> TagsObjective:
    """See `build_objective`."""
    return TagsObjective(settings, num_classes)
