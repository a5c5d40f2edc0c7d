"""How ActionFormer is taught: centre sampling, focal and DIoU losses, imitation of another's output, late fusion."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tadscale.losses.diou import diou_loss
from tadscale.losses.focal import quality_focal, sigmoid_focal
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Objective, Targets


class ActionFormerObjective(Objective):
    """Zhang, Wu, Li, ECCV 2022, sec. 3.3 and 3.4: the sum over moments of L_cls + 1[positive] L_reg, over the number of
    positive ones; predictions are those of `ActionFormerHead`."""

    def __init__(self, settings: ActionFormerConfig, num_classes: int) -> None:
        self._settings = settings
        self._num_classes = num_classes

    def loss(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Focal loss over classes plus DIoU loss over positive moments, each divided by the window's positives, `[B]`."""
        labels, segments, positive = self.assign(predictions["points"], predictions["mask"], targets)
        count = positive.sum(dim=1).clamp(min=self._settings.min_positives)  # [B]
        focal = sigmoid_focal(predictions["logits"], labels).sum(dim=2)  # [B, P]
        classification = (focal * predictions["mask"]).sum(dim=1) / count
        localisation = (diou_loss(predictions["segments"], segments) * positive).sum(dim=1) / count
        return classification + localisation

    def assign(self, points: Tensor, mask: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Centre sampling: which moment answers for which action.

        A moment is positive for an action if it lies inside it, within `centre_radius` strides of its centre, and the
        farther of its two distances is in the level's range (below 4 strides at the first level, 2 to 4 strides between,
        above 2 strides at the last: the paper's ranges, in strides). The shortest such action gives the segment, and the
        class with it, unless `overlapping_classes` asks for the classes of all. Where several are equally short, the
        first gives the segment and each its class: THUMOS14 labels every CliffDiving as Diving, too.

        Returns:
            Class targets `[B, P, K]` 0/1, segments `[B, P, 2]`, positives `[B, P]`.
        """
        place, stride = points[..., 0:1], points[..., 1:2]  # [B, P, 1]
        start, end = targets.segments_frames[:, None, :, 0], targets.segments_frames[:, None, :, 1]  # [B, 1, N]
        reach = torch.maximum(place - start, end - place) / stride  # [B, P, N], in strides
        inside = (place >= start) & (place <= end)
        central = (place - (start + end) / 2).abs() <= self._settings.centre_radius * stride
        first, last = stride == stride.amin(dim=1, keepdim=True), stride == stride.amax(dim=1, keepdim=True)
        suits = (first | (reach >= 2)) & (last | (reach < 4))
        claims = inside & central & suits & (targets.labels >= 0)[:, None] & mask.unsqueeze(2)  # [B, P, N]
        length = (end - start).expand_as(reach).masked_fill(~claims, torch.inf)
        least, shortest = length.min(dim=2, keepdim=True)  # [B, P, 1]
        segments = targets.segments_frames.gather(1, shortest.expand(-1, -1, 2))
        classes = F.one_hot(targets.labels.clamp(min=0), self._num_classes)
        named = claims if self._settings.overlapping_classes == "all" else claims & (length == least)
        labels = torch.einsum("bpn,bnk->bpk", named.to(points.dtype), classes.to(points.dtype)).clamp(max=1)
        return labels, segments, claims.any(dim=2)

    def imitate(self, student: Predictions, teacher: Predictions) -> Tensor:
        """Quality focal loss to the teacher's scores plus DIoU to its segments where it is confident, `[B]`.

        The form is our choice (the paper does not publish one). Both parts are divided by the teacher's soft number of
        positives in the window; a moment's segment counts by the teacher's best score there.
        """
        mask = student["mask"]
        scores = torch.sigmoid(teacher["logits"].detach()) * mask.unsqueeze(2)  # [B, P, K]
        confidence = scores.amax(dim=2)  # [B, P]
        count = confidence.sum(dim=1).clamp(min=self._settings.min_positives)  # [B]
        classes = quality_focal(student["logits"], scores).sum(dim=2) * mask  # [B, P]
        extents = diou_loss(student["segments"], teacher["segments"].detach()) * confidence  # [B, P]
        return (classes.sum(dim=1) + extents.sum(dim=1)) / count

    def fuse(self, predictions: list[Predictions]) -> Predictions:
        """Late fusion: mean of the logits (product of experts on each class), segments averaged by confidence."""
        logits = torch.stack([prediction["logits"] for prediction in predictions])  # [M, B, P, K]
        segments = torch.stack([prediction["segments"] for prediction in predictions])  # [M, B, P, 2]
        weight = torch.sigmoid(logits).amax(dim=3, keepdim=True)  # [M, B, P, 1]
        fused = (segments * weight).sum(dim=0) / weight.sum(dim=0).clamp(min=1e-6)
        return predictions[0] | {"logits": logits.mean(dim=0), "segments": fused}


def build(settings: ActionFormerConfig, num_classes: int) -> ActionFormerObjective:
    """See `build_objective`."""
    return ActionFormerObjective(settings, num_classes)
