"""The settings of a network, as one tree."""

from tadscale.config import Config
from tadscale.models.backbones import BackboneConfig
from tadscale.models.heads import HeadConfig


class ModelConfig(Config):
    """A detector or a student: the same backbone and head serve teacher, baseline and student."""

    backbone: BackboneConfig = BackboneConfig()
    """Where features come from."""
    dim: int = 64
    """Channels D of a branch's features."""
    head: HeadConfig = HeadConfig()
    """Where detections come from."""
