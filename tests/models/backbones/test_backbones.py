"""What single backbones promise beyond the rules of all (`test_conformance.py`)."""

import torch

from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.backbones.tsm_resnet import TsmResNet18Config, temporal_shift


def test_full_width_resnet_has_the_published_size():
    backbone = TsmResNet18Config(width=64).build(3)
    assert sum(p.numel() for p in backbone.parameters()) == 11_176_512  # ResNet-18 without its classifier
    assert backbone.out_channels == 512


def test_shift_moves_an_eighth_of_the_channels_each_way():
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 16, 1, 1) + 1  # one clip of 4 frames: 1, 2, 3, 4
    shifted = temporal_shift(x, frames=4)[:, :, 0, 0]
    assert shifted[:, 0].tolist() == [0, 1, 2, 3]
    assert shifted[:, 2].tolist() == [2, 3, 4, 0]
    assert shifted[:, 4].tolist() == [1, 2, 3, 4]
    assert [int((shifted[:, c] != x[:, c, 0, 0]).any()) for c in range(16)] == [1] * 4 + [0] * 12


def test_pictures_are_symmetric_around_zero_by_default():
    frames = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(1, 2, 4, 4, 3)
    video = Small3dConfig().build(3).normalise(frames)
    assert video.shape == (1, 3, 2, 4, 4)
    assert video[0, :, 0].unique().tolist() == [-1.0]
    assert video[0, :, 1].unique().tolist() == [1.0]
