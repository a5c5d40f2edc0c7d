"""Backbones, a file or a folder each: video or motion in, one feature vector a time step out.
`BackboneConfig` lists them all: a job chooses by `model.backbone.name`."""

from typing import Annotated

from tadscale.config import ChosenByName
from tadscale.models.backbones.features import FeaturesConfig
from tadscale.models.backbones.i3d import I3dConfig
from tadscale.models.backbones.slowfast import SlowFastR50Config
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.backbones.tsm_mobilenet_v2 import TsmMobileNetV2Config
from tadscale.models.backbones.tsm_resnet import TsmR18Config, TsmR50Config, TsmResNet18Config
from tadscale.models.backbones.video_resnet import (
    Mc318Config,
    R2Plus1d18Config,
    R2Plus1d34Config,
    R3d18Config,
)
from tadscale.models.backbones.vit.backbone import VitConfig

BackboneConfig = Annotated[
    Small3dConfig
    | TsmResNet18Config
    | TsmR18Config
    | TsmR50Config
    | TsmMobileNetV2Config
    | I3dConfig
    | SlowFastR50Config
    | R3d18Config
    | Mc318Config
    | R2Plus1d18Config
    | R2Plus1d34Config
    | VitConfig
    | FeaturesConfig,
    ChosenByName(),
]
"""Which backbone, and its settings: the one list of backbones."""
