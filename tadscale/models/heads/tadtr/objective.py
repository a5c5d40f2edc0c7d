"""How TadTR is taught: queries are matched one to one with actions, or with a teacher's queries, and answer for them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tadscale.losses.focal import quality_focal, sigmoid_focal
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Objective, Targets
from tadscale.models.heads.tadtr.matching import match
from tadscale.models.heads.tadtr.network import TadTRConfig
from tadscale.models.tiou import temporal_iou


class TadTRObjective(Objective):
    """Liu et al., TIP 2022, sec. III, action matching and its losses; predictions are those of `TadTRHead`.

    Published losses are divided by the batch's mean number of actions and summed over the decoder's layers. Here they are
    divided by the window's own number, at least 1, and by the layers, so that their number does not make the loss larger.
    """

    def __init__(self, settings: TadTRConfig, num_classes: int) -> None:
        self._settings = settings
        self._num_classes = num_classes

    def loss(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Every layer is matched with the window's actions for itself; the last answers for its actionness too, `[B]`."""
        exists = targets.labels >= 0  # [B, N]
        count = exists.sum(dim=1).clamp(min=1)  # [B]
        layers = [
            self._layer_loss(logits, segments, predictions["frames"], targets)
            for logits, segments in zip(predictions["logits"].unbind(1), predictions["segments"].unbind(1), strict=True)
        ]
        actionness = self._actionness_loss(predictions, targets.segments_frames, exists)
        return (torch.stack(layers).sum(dim=0) / count + self._settings.actionness_weight * actionness) / len(layers)

    def _layer_loss(self, logits: Tensor, segments: Tensor, frames: Tensor, targets: Targets) -> Tensor:
        """One layer's class and segment losses, summed over its queries, `[B]`."""
        answers = match(self.matching_cost(logits, segments, frames, targets), targets.labels >= 0)  # [B, Q]
        positive = answers >= 0
        labels = F.one_hot(_take(targets.labels, answers).clamp(min=0), self._num_classes) * positive.unsqueeze(2)
        classes = sigmoid_focal(logits, labels.to(logits.dtype)).sum(dim=2) * (frames > 0).unsqueeze(1)
        extents = self._segment_distance(segments, _take(targets.segments_frames, answers), frames) * positive
        return self._settings.class_weight * classes.sum(dim=1) + extents.sum(dim=1)

    def matching_cost(self, logits: Tensor, segments: Tensor, frames: Tensor, targets: Targets) -> Tensor:
        """What it costs a query to answer for an action, `[B, Q, N]`: its distance from it, and what its class loss would
        change by, at a weight of its own.

        The class part is the focal loss as a positive less that as a negative (Zhu et al., ICLR 2021).
        """
        one = torch.ones_like(logits)
        change = sigmoid_focal(logits, one) - sigmoid_focal(logits, 0 * one)  # [B, Q, K]
        labels = targets.labels.clamp(min=0).unsqueeze(1).expand(-1, logits.shape[1], -1)  # [B, Q, N]
        distance = self._segment_distance(segments.unsqueeze(2), targets.segments_frames.unsqueeze(1), frames)
        return self._settings.matching_class_weight * change.gather(2, labels) + distance

    def _segment_distance(self, first: Tensor, second: Tensor, frames: Tensor) -> Tensor:
        """Weighted L1 of centre and width, in windows, and 1 - tIoU; `[B, ..., 2]` twice, broadcast, to `[B, ...]`."""
        difference = first - second
        centre, width = difference.mean(dim=-1), difference[..., 1] - difference[..., 0]
        window = frames.clamp(min=1).reshape(-1, *[1] * (centre.dim() - 1))
        extent = (centre.abs() + width.abs()) / window
        apart = 1 - temporal_iou(first, second)
        return self._settings.extent_weight * extent + self._settings.tiou_weight * apart

    def _actionness_loss(self, predictions: Predictions, segments: Tensor, exists: Tensor) -> Tensor:
        """L1 from each last segment's best tIoU with an action, mean over queries, as published, `[B]`."""
        last = predictions["segments"][:, -1].detach()
        fit = (temporal_iou(last.unsqueeze(2), segments.unsqueeze(1)) * exists.unsqueeze(1)).amax(dim=2)  # [B, Q]
        return (torch.sigmoid(predictions["actionness"]) - fit).abs().mean(dim=1) * (predictions["frames"] > 0)

    def imitate(self, student: Predictions, teacher: Predictions) -> Tensor:
        """Each of the student's layers imitates the teacher's in the same place from the last, `[B]`.

        Ours: the paper has no distillation. Queries of two networks mean different things, so they are matched, at the least
        total loss. A query takes on the scores of the teacher's (quality focal loss), its segment as far as the teacher is
        confident, and its actionness as far as the segments agree. Most of a teacher's queries are not confident: those
        matched with them learn low scores. Divided by the teacher's soft number of actions in the window, at least 1.
        """
        depth = min(student["logits"].shape[1], teacher["logits"].shape[1])
        layers, answers = zip(
            *(self._imitate_layer(student, teacher, place) for place in range(-depth, 0)), strict=True
        )
        actionness = _actionness_imitation(student, teacher, answers[-1])
        return (torch.stack(layers).sum(dim=0) + self._settings.actionness_weight * actionness) / depth

    def _imitate_layer(self, student: Predictions, teacher: Predictions, place: int) -> tuple[Tensor, Tensor]:
        """One layer's distance from the teacher, `[B]`, and which of its queries each of the student's follows, `[B, Q]`."""
        logits, segments = student["logits"][:, place], student["segments"][:, place]  # [B, Q, K], [B, Q, 2]
        scores = torch.sigmoid(teacher["logits"][:, place].detach()).unsqueeze(1)  # [B, 1, T, K]
        taught = teacher["segments"][:, place].detach().unsqueeze(1)  # [B, 1, T, 2]
        confidence = scores.amax(dim=3)  # [B, 1, T]
        classes = quality_focal(*torch.broadcast_tensors(logits.unsqueeze(2), scores)).sum(dim=3)  # [B, Q, T]
        extents = self._segment_distance(segments.unsqueeze(2), taught, student["frames"]) * confidence
        distance = self._settings.class_weight * classes + extents  # [B, Q, T]
        # A teacher with more queries than the student teaches by its most confident.
        least = confidence.topk(min(distance.shape[1:])).values[..., -1:]
        answers = match(distance, (confidence >= least).squeeze(1))  # [B, Q]
        idle = self._settings.class_weight * quality_focal(logits, torch.zeros_like(logits)).sum(dim=2)
        answered = distance.gather(2, answers.clamp(min=0).unsqueeze(2)).squeeze(2)
        total = torch.where(answers >= 0, answered, idle).sum(dim=1)
        return total / confidence.sum(dim=(1, 2)).clamp(min=1), answers

    def fuse(self, predictions: list[Predictions]) -> Predictions:
        """Late fusion: the other sets' queries are matched with the first's, then as many are kept as one set has.

        Ours. Concatenated sets would find every action twice, and nothing suppresses the second. Matched is what overlaps
        and is confident in both. Logits are averaged (product of experts on each class), segments by confidence.
        """
        aligned = [predictions[0], *(_aligned(predictions[0], other) for other in predictions[1:])]
        logits = torch.stack([each["logits"] for each in aligned])  # [S, B, M, Q, K], S sets
        segments = torch.stack([each["segments"] for each in aligned])  # [S, B, M, Q, 2]
        weight = torch.sigmoid(logits).amax(dim=4, keepdim=True)  # [S, B, M, Q, 1]
        return predictions[0] | {
            "logits": logits.mean(dim=0),
            "segments": (segments * weight).sum(dim=0) / weight.sum(dim=0).clamp(min=1e-6),
            "actionness": torch.stack([each["actionness"] for each in aligned]).mean(dim=0),
        }


def _actionness_imitation(student: Predictions, teacher: Predictions, answers: Tensor) -> Tensor:
    """L1 to the teacher's actionness, mean over queries, each as far as the segments agree, `[B]`."""
    segments = _take(teacher["segments"][:, -1].detach(), answers)  # [B, Q, 2]
    agreement = temporal_iou(student["segments"][:, -1].detach(), segments) * (answers >= 0)  # [B, Q]
    fit = torch.sigmoid(_take(teacher["actionness"].detach(), answers))
    return ((torch.sigmoid(student["actionness"]) - fit).abs() * agreement).mean(dim=1)


def _aligned(first: Predictions, other: Predictions) -> Predictions:
    """`other` with its queries in the order of those of `first` that they mean the same action as."""
    scores = [torch.sigmoid(each["logits"][:, -1]).amax(dim=2) for each in (first, other)]  # [B, Q] each
    overlap = temporal_iou(first["segments"][:, -1].unsqueeze(2), other["segments"][:, -1].unsqueeze(1))  # [B, Q, Q]
    agreement = overlap * scores[0].unsqueeze(2) * scores[1].unsqueeze(1)
    order = match(-agreement, torch.ones_like(scores[1], dtype=torch.bool))  # [B, Q]
    by_layer = order.unsqueeze(1).expand(-1, first["logits"].shape[1], -1).flatten(0, 1)
    layered = {name: _take(other[name].flatten(0, 1), by_layer).view_as(other[name]) for name in ("logits", "segments")}
    return layered | {"actionness": _take(other["actionness"], order)}


def _take(values: Tensor, answers: Tensor) -> Tensor:
    """What each query answers for, `[B, N, ...]` by `[B, Q]` to `[B, Q, ...]`; the first where it is -1, to be masked."""
    index = answers.clamp(min=0).reshape(*answers.shape, *[1] * (values.dim() - 2))
    return values.gather(1, index.expand(*answers.shape, *values.shape[2:]))


def build(settings: TadTRConfig, num_classes: int) -> TadTRObjective:
    """See `build_objective`."""
    return TadTRObjective(settings, num_classes)
