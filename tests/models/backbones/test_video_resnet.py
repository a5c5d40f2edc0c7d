"""R3D and R(2+1)D: their convolutions against plain loops, their rate, their size."""

import pytest
import torch
import torch.nn.functional as F

from tadscale.models.backbones.base import feature_stride
from tadscale.models.backbones.spacetime import Block, inside
from tadscale.models.backbones.video_resnet import Mc318Config, R2Plus1d18Config, R2Plus1d34Config, R3d18Config

CLASSIFIER = 513 * 400
CONFIGS = [R3d18Config, Mc318Config, R2Plus1d18Config, R2Plus1d34Config]


@pytest.mark.parametrize(
    ("config", "size", "tensors"),
    [
        (R3d18Config, 33_371_472, 122),
        (Mc318Config, 11_695_440, 122),
        (R2Plus1d18Config, 31_505_325, 224),
        (R2Plus1d34Config, None, 416),
    ],
)
def test_it_has_the_published_size(config, size, tensors):
    """With torchvision's classifier of 400 classes; of the 34 layers the widths inside are known, below."""
    with torch.device("meta"):
        backbone = config().build(3)
    assert (backbone.out_channels, feature_stride(config())) == (512, 8)
    assert len(backbone.state_dict()) + 2 == tensors
    if size is not None:
        assert sum(p.numel() for p in backbone.parameters()) + CLASSIFIER == size


def test_widths_inside_are_those_of_the_files():
    """VMZ's second convolutions have 288, 576 and 1152 where torchvision's rule would repeat 230, 460 and 921."""
    with torch.device("meta"):
        short, long = R2Plus1d18Config().build(3), R2Plus1d34Config().build(3)
    widths = [
        [getattr(backbone, f"layer{n}")[0].get_submodule(f"{conv}.0.0").out_channels for n in (1, 2, 3, 4)]
        for backbone in (short, long)
        for conv in ("conv1", "conv2")
    ]
    assert widths == [[144, 230, 460, 921], [144, 230, 460, 921], [144, 230, 460, 921], [144, 288, 576, 1152]]
    assert (short.stem[0].out_channels, long.stem[0].out_channels) == (45, 45)


def test_a_factorised_convolution_has_at_most_the_weights_of_the_full_one():
    for channels in (64, 128, 512):
        weights = channels * inside(channels, channels) * (9 + 3)
        assert 0.99 * 27 * channels**2 < weights <= 27 * channels**2


@pytest.mark.parametrize("kind", ["full", "factorised", "space"])
@pytest.mark.parametrize("stride", [(1, 1), (1, 2), (2, 2)])
def test_a_block_is_a_loop_over_frames(kind, stride):
    """Every output frame, from three input frames; factorised, from three that saw space alone; or from one."""
    torch.manual_seed(0)
    block = Block(kind, 3, 4, stride, torch.nn.Identity, own_width=True).double().eval()
    video = torch.randn(1, 3, 5, 6, 6).double()
    with torch.no_grad():
        first = F.relu(_convolved(block.conv1[0], video, stride))
        expected = F.relu(_convolved(block.conv2[0], first, (1, 1)) + block.downsample(video))
        torch.testing.assert_close(block(video), expected)


def _convolved(conv, video, stride):
    """A full or factorised convolution, written as a sum over three frames of convolutions of pictures."""
    if isinstance(conv, torch.nn.Sequential):
        space, _, _, time = conv
        pictures = [F.conv2d(frame, space.weight[:, :, 0], None, stride[1], 1) for frame in video.unbind(2)]
        video, kernels, spatial = F.relu(torch.stack(pictures, 2)), time.weight, (1, 0)
    else:
        kernels, spatial = conv.weight, (stride[1], 1)
    frames, reach = [], kernels.shape[2] // 2
    for t in range(0, video.shape[2], stride[0]):
        seen = [(k, t + k - reach) for k in range(2 * reach + 1) if 0 <= t + k - reach < video.shape[2]]
        frames.append(sum(F.conv2d(video[:, :, f], kernels[:, :, k], None, *spatial) for k, f in seen))
    return torch.stack(frames, 2)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_the_first_stages_halve_the_rate(config, stride):
    backbone = config(width=8, stride=stride).build(3)
    rates = [getattr(backbone, f"layer{n}")[0].downsample[0].stride[0] for n in (2, 3, 4)]
    assert rates == [2 if config is not Mc318Config and stride >= least else 1 for least in (2, 4, 8)]
    assert backbone(torch.zeros(1, 3, 17, 32, 32)).shape == (1, 64, -(-17 // stride))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_stage_can_be_read_and_the_last_is_what_is_used(config):
    backbone = config(width=8, stride=2).build(3).eval()
    video = torch.randn(1, 3, 9, 40, 48)
    stages = backbone.stages(video)
    inner = 9 if config is Mc318Config else 5
    sizes = [(8, 9, 20, 24), (16, inner, 10, 12), (32, inner, 5, 6), (64, 5, 3, 3)]
    assert [maps.shape[1:] for maps in stages] == sizes
    assert backbone.stage_channels == tuple(size[0] for size in sizes)
    torch.testing.assert_close(stages[-1].mean(dim=(3, 4)), backbone(video))


def test_pictures_are_normalised_as_torchvisions_video_networks_have_them():
    frames = torch.full((1, 2, 4, 4, 3), 255, dtype=torch.uint8)
    published, own = (R3d18Config(width=8, norm=norm).build(3).normalise(frames) for norm in ("batch", "group"))
    expected = [(1 - 0.43216) / 0.22803, (1 - 0.394666) / 0.22145, (1 - 0.37645) / 0.216989]
    torch.testing.assert_close(published[0, :, 0, 0, 0], torch.tensor(expected))
    assert own.eq(1).all()


@pytest.mark.parametrize("config", CONFIGS)
def test_norms_by_groups_learn_and_do_not_depend_on_the_batch(config):
    torch.manual_seed(0)
    backbone = config(width=8, norm="group").build(3)
    clips = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(backbone(clips)[:1], backbone(clips[:1]), rtol=1e-4, atol=1e-5)
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert norms
    assert all(norm.num_channels >= 4 * norm.num_groups for norm in norms)
    assert all(p.requires_grad for norm in norms for p in norm.parameters())


def test_norms_by_groups_count_no_statistics_that_checkpointing_would_count_twice():
    assert R3d18Config(norm="group", frozen_norm=False, checkpoint=True).checkpoint
    with pytest.raises(ValueError, match="set frozen_norm to true"):
        R3d18Config(norm="batch", frozen_norm=False, checkpoint=True)


def test_mixed_convolutions_see_time_in_the_first_stage_and_are_averaged_over_it_at_the_end():
    backbone = Mc318Config(width=8, stride=4).build(3).eval()
    kernels = [getattr(backbone, f"layer{n}")[1].conv2[0].kernel_size[0] for n in (1, 2, 3, 4)]
    assert (backbone.stem[0].kernel_size[0], kernels) == (3, [3, 1, 1, 1])
    video = torch.randn(1, 3, 10, 32, 32)
    with torch.no_grad():
        maps = backbone.layer4(backbone.layer3(backbone.layer2(backbone.layer1(backbone.stem(video)))))
        expected = torch.stack([maps[:, :, t : t + 4].mean(dim=(2, 3, 4)) for t in (0, 4, 8)], dim=2)
        torch.testing.assert_close(backbone(video), expected)


@pytest.mark.parametrize(("config", "eps"), [(R3d18Config, 1e-5), (R2Plus1d18Config, 1e-5), (R2Plus1d34Config, 1e-3)])
def test_norms_add_to_their_variances_what_the_published_ones_do(config, eps):
    backbone = config(width=8).build(3)
    assert {m.eps for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm3d)} == {eps}
