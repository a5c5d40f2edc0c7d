"""Backbones: video or motion in, one feature vector a time step out."""

from typing import Literal

from tadscale.config import Config
from tadscale.models.backbones.base import Backbone
from tadscale.models.backbones.small3d import Small3d
from tadscale.models.backbones.tsm_resnet import TsmResNet18


class BackboneConfig(Config):
    """Which backbone."""

    name: Literal["small3d", "tsm_resnet18"] = "small3d"
    """`small3d`: three 3-D convolutions for small pictures, trains in minutes on two cores. `tsm_resnet18`: ResNet-18 with
    temporal shift, any resolution."""
    width: int = 16
    """Channels of the first stage; `tsm_resnet18` is at full width with 64."""
    stride: int = 2
    """Temporal stride r: frames per feature step."""


def build_backbone(config: BackboneConfig, in_channels: int) -> Backbone:
    """The backbone that the settings name, for inputs of `in_channels`."""
    if config.name == "small3d":
        return Small3d(in_channels, width=config.width, stride=config.stride)
    return TsmResNet18(in_channels, width=config.width, stride=config.stride)
