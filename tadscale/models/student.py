"""The decomposed student: motion and appearance branches over one RGB backbone, fused for a joint detector."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tadscale.models.backbones import build_backbone
from tadscale.models.config import ModelConfig
from tadscale.models.detector import feature_mask
from tadscale.models.fusion import LocalAttentiveFusion
from tadscale.models.heads import build_head
from tadscale.models.heads.base import Predictions
from tadscale.models.temporal import TemporalMapping


class StudentOutput(NamedTuple):
    """What the objectives need. Features are `[B, D, L]`."""

    motion_feature: Tensor
    motion: Predictions
    appearance: Predictions
    joint: Predictions


class Student(nn.Module):
    """Dual-branch RGB student (Lee et al., CVPR 2023, Fig. 3a).

    Both branches go through *one* branch detector: without sharing they may learn one representation and leave the
    difference to the heads. The branch detector serves training only: `inference_state` leaves it out.
    """

    def __init__(self, config: ModelConfig, *, num_classes: int, with_branch_head: bool = True) -> None:
        super().__init__()
        self.backbone = build_backbone(config.backbone, in_channels=3)
        self.motion = TemporalMapping(self.backbone.out_channels, config.dim)
        self.appearance = TemporalMapping(self.backbone.out_channels, config.dim)
        self.motion_fusion = LocalAttentiveFusion(config.dim)
        self.appearance_fusion = LocalAttentiveFusion(config.dim)
        stride = config.backbone.stride
        if with_branch_head:
            self.branch_head = build_head(config.head, in_dim=config.dim, num_classes=num_classes, stride_frames=stride)
        self.head = build_head(config.head, in_dim=2 * config.dim, num_classes=num_classes, stride_frames=stride)

    def forward(self, video: Tensor, mask: Tensor) -> StudentOutput:
        """Training: RGB `[B, 3, T, H, W]`, valid frames `[B, T]`, to features and predictions of every part."""
        steps = feature_mask(mask, self.backbone.stride)
        motion, appearance = self._branches(video, steps)
        return StudentOutput(
            motion_feature=motion,
            motion=self.branch_head(motion, steps),
            appearance=self.branch_head(appearance, steps),
            joint=self._joint(motion, appearance, steps),
        )

    def detect(self, video: Tensor, mask: Tensor) -> Predictions:
        """Inference (Fig. 3b): the joint detector's predictions; the branch detector is not called."""
        steps = feature_mask(mask, self.backbone.stride)
        return self._joint(*self._branches(video, steps), steps)

    def _branches(self, video: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(video)  # [B, C, L]
        return self.motion(features, steps), self.appearance(features, steps)  # [B, D, L] each

    def _joint(self, motion: Tensor, appearance: Tensor, steps: Tensor) -> Predictions:
        """Each branch enhanced by the other (both directions: our choice, the figure draws one), then one head."""
        enhanced_motion = self.motion_fusion(motion, appearance, steps)
        enhanced_appearance = self.appearance_fusion(appearance, motion, steps)
        return self.head(torch.cat([enhanced_motion, enhanced_appearance], dim=1), steps)


def inference_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A trained student's tensors without the branch detector's: what is exported and registered."""
    return {name: value for name, value in state.items() if not name.startswith("branch_head.")}
