"""ResNets with temporal shift: the blocks against plain ones, and their size."""

import pytest
import torch
import torch.nn.functional as F

from tadscale.models.backbones.temporal_shift import temporal_shift
from tadscale.models.backbones.tsm_mobilenet_v2 import TsmMobileNetV2Config
from tadscale.models.backbones.tsm_resnet import ShiftedBottleneck, TsmR18Config, TsmR50Config, TsmResNet18Config


def shifted_by_hand(clip):
    """`[T, C, H, W]`: frame t gets the first eighth of the channels of t + 1 and the second of t - 1, as in TSM's own code
    (mit-han-lab, ops/temporal_shift.py: `out[:, :-1, :fold] = x[:, 1:, :fold]`), whose weights are published."""
    fold = clip.shape[1] // 8
    out = clip.clone()
    for t in range(len(clip)):
        out[t, :fold] = clip[t + 1, :fold] if t + 1 < len(clip) else 0
        out[t, fold : 2 * fold] = clip[t - 1, fold : 2 * fold] if t > 0 else 0
    return out


def test_shift_moves_an_eighth_of_the_channels_each_way():
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 16, 1, 1) + 1  # one clip of 4 frames: 1, 2, 3, 4
    shifted = temporal_shift(x, frames=4)[:, :, 0, 0]
    assert shifted[:, 0].tolist() == [2, 3, 4, 0]
    assert shifted[:, 2].tolist() == [0, 1, 2, 3]
    assert shifted[:, 4].tolist() == [1, 2, 3, 4]
    assert [int((shifted[:, c] != x[:, c, 0, 0]).any()) for c in range(16)] == [1] * 4 + [0] * 12


@pytest.mark.parametrize("settings", [TsmR18Config(width=8, stride=1), TsmMobileNetV2Config(stride=1)])
def test_the_other_way_round_it_is_the_network_on_the_clip_played_backwards(settings):
    torch.manual_seed(0)
    published, earlier = (settings.model_copy(update={"shift_first": first}).build(3) for first in ("next", "previous"))
    earlier.load_state_dict(published.state_dict())
    clip = torch.randn(1, 3, 5, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(earlier.eval()(clip), published.eval()(clip.flip(2)).flip(2))
        assert (earlier(clip) - published(clip)).abs().max() > 0.01


@pytest.mark.parametrize(("stride", "channels"), [(1, 16), (2, 32)])
def test_a_bottleneck_shifts_its_branch_and_leaves_the_identity(stride, channels):
    torch.manual_seed(0)
    block = ShiftedBottleneck(16, channels, stride, torch.nn.BatchNorm2d, "next").eval()
    clips = torch.randn(2, 3, 16, 8, 8)
    with torch.no_grad():
        out = block(clips.flatten(0, 1), 3).unflatten(0, (2, 3))
        for clip, found in zip(clips, out, strict=True):
            branch = F.relu(block.bn1(F.conv2d(shifted_by_hand(clip), block.conv1.weight)))
            branch = F.relu(block.bn2(F.conv2d(branch, block.conv2.weight, stride=stride, padding=1)))
            branch = block.bn3(F.conv2d(branch, block.conv3.weight))
            kept = clip
            if stride == 2:
                kept = block.downsample[1](F.conv2d(clip, block.downsample[0].weight, stride=2))
            torch.testing.assert_close(found, F.relu(branch + kept))


@pytest.mark.parametrize(
    ("settings", "size", "tensors", "width"),
    [
        (TsmResNet18Config(width=64), 11_176_512, 60, 512),
        (TsmR18Config(), 11_176_512, 120, 512),
        (TsmR50Config(), 23_508_032, 318, 2048),
    ],
)
def test_they_have_the_published_size(settings, size, tensors, width):
    """Torchvision's ResNets without their classifiers: 11,689,512 - 513,000 and 25,557,032 - 2,049,000 parameters."""
    with torch.device("meta"):
        backbone = settings.build(3)
    assert sum(p.numel() for p in backbone.parameters()) == size
    assert len(backbone.state_dict()) == tensors  # torchvision's 122 and 320 less two; group norms have no statistics
    assert backbone.out_channels == width


def test_the_published_one_is_the_other_at_full_width_with_its_norms():
    wide = TsmResNet18Config(width=16, norm="batch").build(3)
    published = TsmR18Config(width=16).build(3)
    wide.load_state_dict(published.state_dict())
    video = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(wide(video), published(video))
