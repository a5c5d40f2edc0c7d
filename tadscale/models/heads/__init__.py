"""Detection heads, one published family a file."""

from typing import Literal

from tadscale.config import Config
from tadscale.models.heads.actionformer import ActionFormerConfig, ActionFormerHead
from tadscale.models.heads.base import Head


class HeadConfig(Config):
    """Which detection head, and its settings."""

    name: Literal["actionformer"] = "actionformer"
    """`actionformer`: anchor-free, a local-attention pyramid (Zhang, Wu, Li, ECCV 2022)."""
    actionformer: ActionFormerConfig = ActionFormerConfig()
    """Settings of `actionformer`."""


def build_head(config: HeadConfig, *, in_dim: int, num_classes: int, stride_frames: int) -> Head:
    """The head that the settings name, on features of `in_dim` channels that stand `stride_frames` frames apart."""
    return ActionFormerHead(config.actionformer, in_dim=in_dim, num_classes=num_classes, stride_frames=stride_frames)
