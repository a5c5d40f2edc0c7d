"""The settings of a network, as one tree."""

from tadscale.config import Config
from tadscale.models.backbones import BackboneConfig
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.heads import HeadConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig


class ModelConfig(Config):
    """A detector or a student: the same backbone and head serve teacher, baseline and student."""

    backbone: BackboneConfig = Small3dConfig()
    """Where features come from."""
    dim: int = 64
    """Channels D of a branch's features."""
    head: HeadConfig = ActionFormerConfig()
    """Where detections come from."""
