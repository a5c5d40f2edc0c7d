"""What single backbones promise beyond the rules of all (`test_conformance.py`)."""

import torch

from tadscale.models.backbones.small3d import Small3dConfig


def test_pictures_are_symmetric_around_zero_by_default():
    frames = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(1, 2, 4, 4, 3)
    video = Small3dConfig().build(3).normalise(frames)
    assert video.shape == (1, 3, 2, 4, 4)
    assert video[0, :, 0].unique().tolist() == [-1.0]
    assert video[0, :, 1].unique().tolist() == [1.0]
