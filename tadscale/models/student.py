"""The decomposed student: motion and appearance branches over one RGB backbone, fused for a joint detector."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tadscale.models.config import ModelConfig
from tadscale.models.detector import DetectorOutput, as_input
from tadscale.models.fusion import FUSIONS
from tadscale.models.heads.base import Predictions
from tadscale.models.temporal import TemporalMapping

BRANCH_HEAD = "branch_head"
"""Prefix of the branch detectors' tensors."""


class StudentOutput(NamedTuple):
    """What the objectives need."""

    features: Tensor
    """`[B, C, L]` of the backbone, where the branches part."""
    motion_feature: Tensor
    """`[B, D, L]` of the motion branch, as distillation sees it."""
    motion_predictions: Predictions
    """Of the branch detector on the motion branch."""
    appearance_predictions: Predictions
    """Of the branch detector on the appearance branch."""
    joint_predictions: Predictions
    """Of the joint detector."""
    taught_appearance: DetectorOutput | None = None
    """Feature and predictions of the appearance branch, as distillation sees them, where it is taught there, too."""
    told_motion: Predictions | None = None
    """Of the branch detector on the motion branch, as ground truth sees them, where it is given there, too."""


class Student(nn.Module):
    """Dual-branch RGB student (Lee et al., CVPR 2023, Fig. 3a).

    Both branches go through *one* branch detector: without sharing they may learn one representation and leave the
    difference to the heads. The branch detector serves training only: `inference_state` leaves it out.
    """

    def __init__(
        self, config: ModelConfig, *, num_classes: int, with_branch_head: bool = True, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.backbone = config.backbone.build(in_channels)
        self.motion_branch = TemporalMapping(self.backbone.out_channels, config.dim)
        self.appearance_branch = TemporalMapping(self.backbone.out_channels, config.dim)
        self.motion_fusion = FUSIONS[config.fusion](config.dim)
        self.appearance_fusion = FUSIONS[config.fusion](config.dim)
        build, stride = config.head.build, self.backbone.stride
        if with_branch_head:
            self.branch_head = build(in_dim=config.dim, num_classes=num_classes, stride_frames=stride)
            if not config.shared_branch_head:
                self.branch_head_of_motion = build(in_dim=config.dim, num_classes=num_classes, stride_frames=stride)
        self.head = build(in_dim=2 * config.dim, num_classes=num_classes, stride_frames=stride)

    def forward(
        self,
        video: Tensor,
        mask: Tensor,
        part: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
        appearance_is_taught: bool = False,
        motion_is_told: bool = False,
    ) -> StudentOutput:
        """Training: pictures to features and predictions of every part.

        Args:
            video: pictures `[B, T, H, W, 3]` uint8, or RGB features `[B, T, C]`.
            mask: valid frames `[B, T]`.
            part: gives the backbone's features twice, as ground truth and as distillation see them, and joins the gradients
                of both on their way back.
            appearance_is_taught: whether something is distilled into the appearance branch.
            motion_is_told: whether ground truth is given to the motion branch's detections.
        """
        steps = self.backbone.steps(mask)  # [B, L]
        # float32 also under autocast: what a training mode measures at the split is asked of this very tensor.
        features = self.backbone(as_input(self.backbone, video)).float()  # [B, C, L]
        seen, taught_by = (features, None) if part is None else part(features)
        motion, appearance = self._branches(seen, steps)
        taught = motion if taught_by is None else self.motion_branch(taught_by, steps)
        motion_head = getattr(self, "branch_head_of_motion", self.branch_head)
        output = StudentOutput(
            features=features,
            motion_feature=taught,
            motion_predictions=motion_head(taught, steps),
            appearance_predictions=self.branch_head(appearance, steps),
            joint_predictions=self._joint(motion, appearance, steps),
        )
        if motion_is_told:
            told = output.motion_predictions if taught_by is None else motion_head(motion, steps)
            output = output._replace(told_motion=told)
        if not appearance_is_taught:
            return output
        if taught_by is None:
            return output._replace(taught_appearance=DetectorOutput(appearance, output.appearance_predictions))
        again = self.appearance_branch(taught_by, steps)
        return output._replace(taught_appearance=DetectorOutput(again, self.branch_head(again, steps)))

    def detect(self, video: Tensor, mask: Tensor) -> Predictions:
        """Inference (Fig. 3b): the joint detector's predictions; the branch detector is not called."""
        steps = self.backbone.steps(mask)
        features = self.backbone(as_input(self.backbone, video))
        return self._joint(*self._branches(features, steps), steps)

    def _branches(self, features: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        return self.motion_branch(features, steps), self.appearance_branch(features, steps)  # [B, D, L] each

    def _joint(self, motion: Tensor, appearance: Tensor, steps: Tensor) -> Predictions:
        """Each branch enhanced by the other (both directions: our choice, the figure draws one), then one head."""
        enhanced_motion = self.motion_fusion(motion, appearance, steps)
        enhanced_appearance = self.appearance_fusion(appearance, motion, steps)
        return self.head(torch.cat([enhanced_motion, enhanced_appearance], dim=1), steps)


def inference_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A trained student's tensors without the branch detector's: what is exported and registered."""
    return {name: value for name, value in state.items() if not name.startswith(BRANCH_HEAD)}
