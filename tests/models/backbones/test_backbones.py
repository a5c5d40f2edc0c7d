"""Backbones: shapes, ability to see motion, and independence of the batch."""

import pytest
import torch

from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.backbones.tsm_resnet import TsmResNet18Config, temporal_shift

CONFIGS = [Small3dConfig, TsmResNet18Config]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("frames", "size"), [(8, (32, 32)), (9, (40, 48))])
def test_one_feature_vector_every_stride_frames(config, frames, size):
    backbone = config(width=8, stride=2).build(3)
    features = backbone(torch.randn(2, 3, frames, *size))
    assert features.shape == (2, backbone.out_channels, -(-frames // 2))


def test_full_width_resnet_has_the_published_size():
    backbone = TsmResNet18Config(width=64).build(3)
    assert sum(p.numel() for p in backbone.parameters()) == 11_176_512  # ResNet-18 without its classifier
    assert backbone.out_channels == 512


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("frames", [2, 8, 10])
def test_features_and_gradients_of_a_clip_do_not_depend_on_its_batch(config, frames):
    torch.manual_seed(0)
    backbone = config(width=8, stride=2).build(2).double().eval()
    clips, wanted = torch.randn(2, 2, frames, 32, 32).double(), torch.randn(1).double()
    alone, together = backbone(clips[:1]), backbone(clips)[:1]
    torch.testing.assert_close(alone, together)
    gradients = [
        torch.autograd.grad((f - wanted).square().sum(), list(backbone.parameters())) for f in (alone, together)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("config", CONFIGS)
def test_playing_a_clip_backwards_changes_the_features(config):
    """A network without temporal extent gives the same features in reverse order: it could never tell left from right."""
    torch.manual_seed(0)
    backbone = config(width=8, stride=1).build(3).eval()
    clip = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        forward, backward = backbone(clip), backbone(clip.flip(2)).flip(2)
    assert (forward - backward).abs().max() > 0.01


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
