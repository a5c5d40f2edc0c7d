"""Pictures come through frozen norms from nothing: features else vanish or blow up."""

import pytest
import torch

from tadscale.models.backbones.i3d import I3dConfig
from tadscale.models.backbones.slowfast import SlowFastR50Config
from tadscale.models.backbones.tsm_resnet import TsmR18Config, TsmR50Config

SETTINGS = [I3dConfig(width=16), SlowFastR50Config(width=16), TsmR18Config(width=16), TsmR50Config(width=16)]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.name)
def test_features_are_about_as_large_as_pictures(settings):
    torch.manual_seed(0)
    with torch.no_grad():
        maps = settings.build(3).maps(torch.randn(1, 3, 8, 64, 64))
    assert 0.2 < maps.square().mean().sqrt() < 5
