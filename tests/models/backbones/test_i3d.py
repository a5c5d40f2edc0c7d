"""I3D: its padding against a loop, its modules against plain convolutions, its size."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tadscale.models.backbones.base import feature_stride
from tadscale.models.backbones.frozen_norm import FrozenBatchNorm3d
from tadscale.models.backbones.i3d import I3d, I3dConfig, Inception, Unit3d, max_pool_same

SMALL = I3dConfig(width=8)
CLASSES = 400
# Of the original checkpoints, classifier included: 230 tensors each.
ORIGINAL_VALUES = {3: 12_704_544, 2: 12_682_592}


def taps(position, size, kernel, stride):
    """Places of an axis under a kernel at an output, in TensorFlow's words: half of what is missing lies before, rounded
    down; None where it is outside."""
    missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    places = [position * stride - missing // 2 + k for k in range(kernel)]
    return [place if 0 <= place < size else None for place in places]


def at(x, places):
    return 0.0 if None in places else float(x[places])


@pytest.mark.parametrize("size", [(4, 5, 6), (5, 4, 7)])
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 1), (3, 2), (2, 2)])
def test_a_convolution_is_a_loop_over_padded_places(size, kernel, stride):
    torch.manual_seed(0)
    unit = Unit3d(1, 1, kernel, stride=stride, frozen_norm=True).double()
    x, weight = torch.randn(1, 1, *size).double(), unit.conv3d.weight[0, 0].detach()
    with torch.no_grad():
        out = unit(x)[0, 0]
    assert list(out.shape) == [-(-axis // stride) for axis in size]
    for place in torch.cartesian_prod(*(torch.arange(axis) for axis in out.shape)).tolist():
        axes = [taps(p, s, kernel, stride) for p, s in zip(place, size, strict=True)]
        total = sum(
            float(weight[i, j, k]) * at(x[0, 0], (t, r, c))
            for i, t in enumerate(axes[0])
            for j, r in enumerate(axes[1])
            for k, c in enumerate(axes[2])
        )
        assert float(out[tuple(place)]) == pytest.approx(max(0.0, total / 1.001**0.5), abs=1e-9)  # the norm's epsilon


@pytest.mark.parametrize("size", [(4, 5, 6), (3, 4, 7)])
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((2, 2, 2), (2, 2, 2))])
def test_pooling_is_a_loop_over_padded_places(size, kernel, stride):
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    out = max_pool_same(x, kernel, stride)[0, 0]
    assert list(out.shape) == [-(-axis // step) for axis, step in zip(size, stride, strict=True)]
    for place in torch.cartesian_prod(*(torch.arange(axis) for axis in out.shape)).tolist():
        rows = [taps(*axis) for axis in zip(place, size, kernel, stride, strict=True)]
        seen = [at(x[0, 0], (t, r, c)) for t in rows[0] for r in rows[1] for c in rows[2]]
        assert float(out[tuple(place)]) == max(seen)


def test_a_module_is_four_branches_in_the_published_order():
    torch.manual_seed(0)
    module = Inception(4, (1, 2, 3, 4, 5, 6), frozen_norm=True)
    x = torch.rand(1, 4, 3, 4, 5)

    def plain(unit, y):
        kernel = unit.conv3d.weight.shape[2]
        return F.relu(F.conv3d(y, unit.conv3d.weight, padding=kernel // 2) / 1.001**0.5)

    with torch.no_grad():
        pooled = F.max_pool3d(x, 3, 1, 1)
        expected = [plain(module.b0, x), plain(module.b1b, plain(module.b1a, x))]
        expected += [plain(module.b2b, plain(module.b2a, x)), plain(module.b3b, pooled)]
        torch.testing.assert_close(module(x), torch.cat(expected, dim=1))
    assert module.out_channels == 1 + 3 + 5 + 6


@pytest.mark.parametrize("channels", [3, 2])
def test_it_has_the_size_of_the_original(channels):
    with torch.device("meta"):
        backbone = I3dConfig().build(channels)
    assert backbone.out_channels == 1024
    original = {
        name: value
        for name, value in backbone.state_dict().items()
        if not name.endswith(("bn.weight", "num_batches_tracked"))  # the original's norms have no gain
    }
    assert len(original) + 2 == 230
    assert sum(value.numel() for value in original.values()) + 1025 * CLASSES == ORIGINAL_VALUES[channels]


def test_a_step_is_eight_frames_and_a_place_32_pixels():
    assert feature_stride(SMALL) == 8
    with torch.no_grad():
        maps = SMALL.build(3).maps(torch.randn(1, 3, 17, 70, 33))
    assert maps.shape == (1, 128, 3, 3, 2)


def test_frozen_norms_do_not_change_in_training():
    backbone = SMALL.build(3).train()
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm3d)]
    assert len(norms) == 57
    assert all(isinstance(norm, FrozenBatchNorm3d) and norm.eps == 1e-3 and not norm.training for norm in norms)
    backbone(torch.randn(1, 3, 8, 32, 32)).sum().backward()
    assert all(not norm.running_mean.any() and norm.weight.grad is None for norm in norms)


def test_norms_that_are_not_frozen_count():
    backbone: I3d = I3dConfig(width=8, frozen_norm=False).build(3).train()
    backbone(torch.randn(2, 3, 16, 64, 64))
    assert all(value == 1 for name, value in backbone.state_dict().items() if name.endswith("num_batches_tracked"))
