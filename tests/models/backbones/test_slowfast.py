"""SlowFast: both pathways against plain loops, and its size."""

import pytest
import torch
import torch.nn.functional as F

from tadscale.models.backbones.base import feature_stride
from tadscale.models.backbones.slowfast import Fusion, SlowFastR50Config, _Layers

SMALL = SlowFastR50Config(width=16)
CLASSIFIER = 2305 * 400


@pytest.mark.parametrize(("alpha", "kernel"), [(4, 7), (8, 5)])
@pytest.mark.parametrize("frames", [1, 9, 16])
def test_a_fusion_is_a_loop_over_frames_around_the_slow_ones(alpha, kernel, frames):
    torch.manual_seed(0)
    fusion = Fusion(_Layers(frozen_norm=True), 2, alpha).double()
    weight = fusion.conv.weight.detach()[..., 0, 0]  # [4, 2, K]
    assert weight.shape == (4, 2, kernel)
    fast = torch.randn(1, 2, frames, 3, 3).double()
    steps = -(-frames // alpha)
    slow = torch.randn(1, 5, steps, 3, 3).double()
    with torch.no_grad():
        fused = fusion(slow, fast)
    assert torch.equal(fused[:, :5], slow)
    for step in range(steps):
        total = torch.zeros(4, 3, 3).double()
        for k in range(kernel):
            frame = alpha * step + k - kernel // 2
            if 0 <= frame < frames:
                total += torch.einsum("oc,chw->ohw", weight[:, :, k], fast[0, :, frame])
        torch.testing.assert_close(fused[0, 5:, step], total.clamp(min=0) / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize("alpha", [4, 8])
def test_the_network_is_two_pathways_with_what_is_fused_between_the_stages(alpha):
    """Written out for 9 frames, by the paper's Table 1: which frames are slow, what meets where, what is averaged."""
    torch.manual_seed(0)
    backbone = SlowFastR50Config(width=16, alpha=alpha).build(3)
    video = torch.randn(1, 3, 9, 32, 32)
    with torch.no_grad():
        slow = backbone.slow.stem(torch.stack([video[:, :, t] for t in range(0, 9, alpha)], dim=2))
        fast = backbone.fast.stem(video)
        for n in (1, 2, 3, 4):
            fuse = getattr(backbone, f"fuse{n}")
            slow = torch.cat([slow, F.relu(fuse.bn(fuse.conv(fast)))], dim=1)
            for block in getattr(backbone.slow, f"layer{n}"):
                slow = block(slow)
            for block in getattr(backbone.fast, f"layer{n}"):
                fast = block(fast)
        features = backbone(video)
    means = [fast[:, :, t : t + alpha].mean(dim=(2, 3, 4)) for t in range(0, 9, alpha)]
    expected = torch.cat([slow.mean(dim=(3, 4)), torch.stack(means, dim=2)], dim=1)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_only_the_last_stages_of_the_slow_pathway_see_time():
    backbone = SMALL.build(3)
    kernels = {
        path: [
            pathway.conv1.kernel_size[0],
            *(getattr(pathway, f"layer{n}")[0].conv1.kernel_size[0] for n in range(1, 5)),
        ]
        for path, pathway in (("slow", backbone.slow), ("fast", backbone.fast))
    }
    assert kernels == {"slow": [1, 1, 1, 3, 3], "fast": [5, 3, 3, 3, 3]}


@pytest.mark.parametrize(("alpha", "millions"), [(4, 34.57), (8, 34.48)])
def test_it_has_the_published_size(alpha, millions):
    """PyTorchVideo's model zoo, with the classifier of 400 classes."""
    with torch.device("meta"):
        backbone = SlowFastR50Config(alpha=alpha).build(3)
    assert (backbone.out_channels, feature_stride(SlowFastR50Config(alpha=alpha))) == (2048 + 256, alpha)
    assert round((sum(p.numel() for p in backbone.parameters()) + CLASSIFIER) / 1e6, 2) == millions


def test_pictures_are_normalised_as_pyslowfast_has_them():
    frames = torch.full((1, 2, 4, 4, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(SMALL.build(3).normalise(frames), torch.full((1, 3, 2, 4, 4), 0.55 / 0.225))
