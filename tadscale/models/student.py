"""The decomposed student: motion and appearance branches over one RGB backbone, fused for a joint detector."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tadscale.models.config import ModelConfig
from tadscale.models.detector import as_input
from tadscale.models.fusion import LocalAttentiveFusion
from tadscale.models.heads.base import Predictions
from tadscale.models.temporal import TemporalMapping

BRANCH_HEAD = "branch_head."
"""Prefix of the branch detector's tensors."""


class StudentOutput(NamedTuple):
    """What the objectives need."""

    motion_feature: Tensor
    """`[B, D, L]` of the motion branch."""
    motion_predictions: Predictions
    """Of the branch detector on the motion branch."""
    appearance_predictions: Predictions
    """Of the branch detector on the appearance branch."""
    joint_predictions: Predictions
    """Of the joint detector."""


class Student(nn.Module):
    """Dual-branch RGB student (Lee et al., CVPR 2023, Fig. 3a).

    Both branches go through *one* branch detector: without sharing they may learn one representation and leave the
    difference to the heads. The branch detector serves training only: `inference_state` leaves it out.
    """

    def __init__(self, config: ModelConfig, *, num_classes: int, with_branch_head: bool = True) -> None:
        super().__init__()
        self.backbone = config.backbone.build(3)
        self.motion_branch = TemporalMapping(self.backbone.out_channels, config.dim)
        self.appearance_branch = TemporalMapping(self.backbone.out_channels, config.dim)
        self.motion_fusion = LocalAttentiveFusion(config.dim)
        self.appearance_fusion = LocalAttentiveFusion(config.dim)
        build, stride = config.head.build, self.backbone.stride
        if with_branch_head:
            self.branch_head = build(in_dim=config.dim, num_classes=num_classes, stride_frames=stride)
        self.head = build(in_dim=2 * config.dim, num_classes=num_classes, stride_frames=stride)

    def forward(self, video: Tensor, mask: Tensor) -> StudentOutput:
        """Training: pictures `[B, T, H, W, 3]` uint8, valid frames `[B, T]`, to features and predictions of every part."""
        steps = self.backbone.steps(mask)  # [B, L]
        motion, appearance = self._branches(video, steps)
        return StudentOutput(
            motion_feature=motion,
            motion_predictions=self.branch_head(motion, steps),
            appearance_predictions=self.branch_head(appearance, steps),
            joint_predictions=self._joint(motion, appearance, steps),
        )

    def detect(self, video: Tensor, mask: Tensor) -> Predictions:
        """Inference (Fig. 3b): the joint detector's predictions; the branch detector is not called."""
        steps = self.backbone.steps(mask)
        return self._joint(*self._branches(video, steps), steps)

    def _branches(self, video: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(as_input(self.backbone, video))  # [B, C, L]
        return self.motion_branch(features, steps), self.appearance_branch(features, steps)  # [B, D, L] each

    def _joint(self, motion: Tensor, appearance: Tensor, steps: Tensor) -> Predictions:
        """Each branch enhanced by the other (both directions: our choice, the figure draws one), then one head."""
        enhanced_motion = self.motion_fusion(motion, appearance, steps)
        enhanced_appearance = self.appearance_fusion(appearance, motion, steps)
        return self.head(torch.cat([enhanced_motion, enhanced_appearance], dim=1), steps)


def inference_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A trained student's tensors without the branch detector's: what is exported and registered."""
    return {name: value for name, value in state.items() if not name.startswith(BRANCH_HEAD)}
