"""How AFSD is taught: coarse, refined and quality losses, activation guided learning; imitation, late fusion."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tadscale.losses.focal import quality_focal, sigmoid_focal
from tadscale.models.heads.afsd.network import AfsdConfig, class_scores
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Objective, Targets
from tadscale.models.tiou import temporal_iou


class AfsdObjective(Objective):
    """Lin et al., CVPR 2021, sec. 3.4 and 3.5; predictions are those of `AfsdHead`."""

    def __init__(self, settings: AfsdConfig, num_classes: int) -> None:
        self._settings = settings
        self._num_classes = num_classes

    def loss(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Coarse (focal, tIoU), refined (focal, L1 of the offsets), quality and boundary activation, `[B]`.

        Each part is divided by its own positives in the window: the moments in an action, or those of them whose coarse
        segment is good enough to be refined.
        """
        labels, segments, positive = self.assign(predictions["points"], predictions["mask"], targets)
        refined = positive & (temporal_iou(predictions["coarse_segments"], segments) >= self._settings.refined_tiou)
        coarse = self._classification(predictions, "coarse_logits", labels)
        coarse = coarse + self._localisation(1 - temporal_iou(predictions["coarse_segments"], segments), positive)
        fit = temporal_iou(predictions["segments"].detach(), segments)  # [B, P]
        coarse = coarse + F.binary_cross_entropy_with_logits(predictions["quality"], fit, reduction="none") * positive
        fine = self._classification(predictions, "logits", labels * refined.unsqueeze(2))
        fine = fine + self._localisation(offset_error(predictions, segments), refined)
        activation = self._settings.activation_weight * activation_loss(predictions, targets)
        return self._per_positive(coarse, positive) + self._per_positive(fine, refined) + activation

    def _classification(self, predictions: Predictions, name: str, labels: Tensor) -> Tensor:
        """Focal loss of every moment that exists, `[B, P]`."""
        return sigmoid_focal(predictions[name], labels).sum(dim=2) * predictions["mask"]

    def _localisation(self, error: Tensor, weight: Tensor) -> Tensor:
        """The weighted error of every moment that answers for an action, `[B, P]`."""
        return self._settings.localisation_weight * error * weight

    def _per_positive(self, losses: Tensor, weight: Tensor) -> Tensor:
        """The sum of `[B, P]` over a window's moments, divided by its own (soft) number of positives, `[B]`."""
        return losses.sum(dim=1) / weight.sum(dim=1).clamp(min=self._settings.min_positives)

    def assign(self, points: Tensor, mask: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Every moment inside an action that suits its level answers for the shortest such action.

        It suits if the farther of the moment's two distances is in the level's range, in strides: below 4 at the first
        level, 2 to 4 between, above 2 at the last. The ranges are ours, after FCOS (Tian et al., ICCV 2019, sec. 3.2); the
        published network answers at all levels, which nearly halves the mAP after 400 steps.

        Returns:
            Class targets `[B, P, K]` 0/1, segments `[B, P, 2]`, positives `[B, P]`.
        """
        place, stride = points[..., :1], points[..., 1:]  # [B, P, 1]
        start, end = targets.segments_frames[:, None, :, 0], targets.segments_frames[:, None, :, 1]  # [B, 1, N]
        farther = torch.maximum(place - start, end - place) / stride  # [B, P, N]
        first, last = stride == stride.amin(dim=1, keepdim=True), stride == stride.amax(dim=1, keepdim=True)
        suits = (first | (farther >= 2)) & (last | (farther < 4))
        inside = (place >= start) & (place <= end) & (targets.labels >= 0)[:, None] & mask.unsqueeze(2)  # [B, P, N]
        claims = inside & suits
        shortest = (end - start).expand_as(claims).masked_fill(~claims, torch.inf).argmin(dim=2)  # [B, P]
        segments = targets.segments_frames.gather(1, shortest.unsqueeze(2).expand(-1, -1, 2))
        positive = claims.any(dim=2)
        labels = F.one_hot(targets.labels.clamp(min=0).gather(1, shortest), self._num_classes) * positive.unsqueeze(2)
        return labels.to(points.dtype), segments, positive

    def imitate(self, student: Predictions, teacher: Predictions) -> Tensor:
        """Distance to what the teacher says of every moment, `[B]`; the paper imitates nobody, the form is ours.

        Quality focal loss to its coarse and refined scores; where it is confident (by the score that it would be decoded
        with), tIoU to its coarse segments, the error of the student's refined ones against its refined ones where the
        student's coarse one is good enough, and quality focal loss to its quality. All is divided by the teacher's soft
        number of positives in the window.
        """
        teacher = {name: value.detach() for name, value in teacher.items()}
        mask = student["mask"]
        confidence = class_scores(teacher).amax(dim=2)  # [B, P]
        logits = torch.cat([student["coarse_logits"], student["logits"]], dim=2)  # [B, P, 2 K]
        scores = torch.sigmoid(torch.cat([teacher["coarse_logits"], teacher["logits"]], dim=2))
        losses = quality_focal(logits, scores).sum(dim=2) * mask  # [B, P]
        losses = losses + quality_focal(student["quality"], torch.sigmoid(teacher["quality"])) * confidence
        coarse = 1 - temporal_iou(student["coarse_segments"], teacher["coarse_segments"])
        near = temporal_iou(student["coarse_segments"], teacher["segments"]) >= self._settings.refined_tiou
        losses = losses + self._localisation(coarse, confidence)
        losses = losses + self._localisation(offset_error(student, teacher["segments"]), confidence * near)
        return self._per_positive(losses, confidence)

    def fuse(self, predictions: list[Predictions]) -> Predictions:
        """Late fusion: mean of all logits and activations; segments averaged by confidence (the paper averages evenly)."""
        names = ("coarse_logits", "logits", "quality", "activations")
        means = {name: torch.stack([each[name] for each in predictions]).mean(dim=0) for name in names}
        weight = (
            torch.stack([class_scores(each).amax(dim=2) for each in predictions]).unsqueeze(3) + 1e-6
        )  # [M, B, P, 1]
        weight = weight / weight.sum(dim=0)
        segments = {
            name: (torch.stack([each[name] for each in predictions]) * weight).sum(dim=0)
            for name in ("coarse_segments", "segments")
        }
        return predictions[0] | means | segments


def offset_error(predictions: Predictions, segments: Tensor) -> Tensor:
    """L1 distance of refined boundaries from `segments` `[B, P, 2]`, in halves of the coarse duration, `[B, P]`.

    It is the L1 loss of the predicted offsets (Lin et al., CVPR 2021, eq. 6): a refined boundary is a coarse one plus half
    its duration times an offset, and the coarse ones get no gradient from it.
    """
    start, end = predictions["coarse_segments"].detach().unbind(-1)
    half = ((end - start) / 2).clamp(min=1e-3)
    return (predictions["segments"] - segments).abs().sum(dim=2) / half


def activation_loss(predictions: Predictions, targets: Targets, eps: float = 1e-4) -> Tensor:
    """Activation guided learning (Lin et al., CVPR 2021, sec. 3.4): binary cross-entropy of the activations, mean over
    frames, `[B]`."""
    wanted = boundary_frames(predictions["activations"].shape[1], targets)  # [B, F, 2]
    found = predictions["activations"].clamp(eps, 1 - eps)
    entropy = -(wanted * found.log() + (1 - wanted) * (1 - found).log()).sum(dim=2)  # [B, F]
    mask = predictions["frame_mask"]
    return (entropy * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def boundary_frames(frames: int, targets: Targets) -> Tensor:
    """Which of a window's first frames are near a start, and which near an end: 0/1, `[B, frames, 2]`.

    Near is within a twentieth of the action's duration to each side, and at least the frame itself (BSN's regions).
    """
    segments = targets.segments_frames  # [B, N, 2]
    reach = ((segments[..., 1:] - segments[..., :1]) / 20).clamp(min=0.5)  # [B, N, 1]
    place = torch.arange(frames, device=segments.device, dtype=segments.dtype)
    near = (place - segments.unsqueeze(3)).abs() <= reach.unsqueeze(3)  # [B, N, 2, F]
    near = near & (targets.labels >= 0)[:, :, None, None]
    return near.any(dim=1).transpose(1, 2).to(segments.dtype)


def build(settings: AfsdConfig, num_classes: int) -> AfsdObjective:
    """See `build_objective`."""
    return AfsdObjective(settings, num_classes)
