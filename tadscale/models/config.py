"""The settings of a network, as one tree."""

from pydantic import PositiveInt

from tadscale.config import Config
from tadscale.models.backbones import BackboneConfig
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.fusion import FusionName
from tadscale.models.heads import HeadConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig


class ModelConfig(Config):
    """A detector or a student: the same backbone and head serve teacher, baseline and student."""

    backbone: BackboneConfig = Small3dConfig()
    """Where features come from."""
    dim: PositiveInt = 64
    """Channels D of a branch's features."""
    head: HeadConfig = ActionFormerConfig()
    """Where detections come from."""
    fusion: FusionName = "laf"
    """How a student's branches enhance each other before the joint detector; but for `laf` alternatives to compare it with:
    `concat` (each as it is), `sum`, `cross_attention` (softmax over time), `squeeze_excitation`."""
    shared_branch_head: bool = True
    """Whether both branches of a student go through one branch detector, as the paper has it."""
