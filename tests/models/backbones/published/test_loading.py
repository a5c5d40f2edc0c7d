"""Published checkpoints of every layout, loaded into the backbones that have them."""

import pytest
import torch
from torch import nn

from tadscale.models.backbones.i3d import I3dConfig
from tadscale.models.backbones.slowfast import SlowFastR50Config
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.backbones.tsm_mobilenet_v2 import TsmMobileNetV2Config
from tadscale.models.backbones.tsm_resnet import TsmR50Config, TsmResNet18Config
from tadscale.models.backbones.video_resnet import (
    Mc318Config,
    R2Plus1d18Config,
    R2Plus1d34Config,
    R3d18Config,
)
from tadscale.weights import without_prefixes
from tests.models.backbones.published import files

MOBILENET = TsmMobileNetV2Config()
RESNET = TsmResNet18Config(width=64, norm="batch")
MOBILENET_FILES = [files.torchvision_mobilenet, files.tsm_mobilenet]
RESNET_FILES = [files.torchvision_resnet, files.tsm_resnet]
PUBLISHED = [(MOBILENET, layout) for layout in MOBILENET_FILES] + [(RESNET, layout) for layout in RESNET_FILES]
# Narrow ones: the names are those of the published, and narrow files are faster.
PUBLISHED += [(TsmR50Config(width=8), layout) for layout in RESNET_FILES]
PUBLISHED += [(kind(width=8), files.torchvision_resnet) for kind in (R3d18Config, Mc318Config, R2Plus1d18Config)]
PUBLISHED += [(R2Plus1d34Config(width=8), layout) for layout in (files.torchvision_resnet, files.tsp)]
PUBLISHED += [(I3dConfig(width=8), files.pytorch_i3d), (SlowFastR50Config(width=16), files.pyslowfast)]
CLASSIFIERS = ("fc.", "fc1.", "fc2.", "classifier", "logits.", "head.projection")


def random_state(settings, in_channels=3):
    """A network's tensors, every one of them unlike what an untrained network has."""
    generator = torch.Generator().manual_seed(7)
    state = settings.build(in_channels).state_dict()
    return {
        name: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value + 3
        for name, value in state.items()
    }


@pytest.mark.parametrize(("settings", "layout"), PUBLISHED)
def test_a_checkpoint_loads_whole_without_its_classifier(settings, layout):
    published = random_state(settings)
    backbone = settings.build(3)
    tensors = without_prefixes(layout(published))
    match = backbone.load_published(tensors, "net.pth")
    state = backbone.state_dict()
    assert state.keys() == published.keys()
    if layout is files.pytorch_i3d:  # its file is older than batch norm's counters
        published = {name: value for name, value in published.items() if "num_batches" not in name}
    assert all(torch.equal(state[name], value) for name, value in published.items())
    assert set(match.left_out) == {name for name in tensors if any(part in name for part in CLASSIFIERS)}
    assert len(match.left_out) == (4 if layout is files.tsp else 2)


@pytest.mark.parametrize(("settings", "layout"), PUBLISHED)
def test_a_motion_backbone_gets_the_mean_over_colours_in_its_first_convolution(settings, layout):
    published = random_state(settings)
    backbone = settings.build(2)
    backbone.load_published(without_prefixes(layout(published)), "net.pth")
    readers = {name: module for name, module in backbone.named_modules() if _reads_input(name, module, published)}
    assert len(readers) == (2 if isinstance(settings, SlowFastR50Config) else 1)
    for name, first in readers.items():
        colours = published[f"{name}.weight"]
        torch.testing.assert_close(first.weight, torch.stack([colours.mean(1), colours.mean(1)], dim=1) * 3 / 2)


def _reads_input(name, module, published):
    """Whether a convolution has two input channels here where it was published with three."""
    is_conv = isinstance(module, nn.Conv2d | nn.Conv3d)
    return is_conv and module.in_channels == 2 and published[f"{name}.weight"].shape[1] == 3


def test_weights_on_flow_are_for_networks_on_flow():
    settings = I3dConfig(width=8)
    published = random_state(settings, in_channels=2)
    backbone = settings.build(2)
    backbone.load_published(files.pytorch_i3d(published), "flow.pt")
    stem = "Conv3d_1a_7x7.conv3d.weight"
    assert torch.equal(backbone.state_dict()[stem], published[stem])
    with pytest.raises(ValueError, match=r"flow\.pt: .*1a_7x7\.conv3d\.weight is \[8, 2, 7, 7, 7\], not .*on motion"):
        settings.build(3).load_published(files.pytorch_i3d(published), "flow.pt")


@pytest.mark.parametrize(("settings", "layout"), PUBLISHED)
def test_what_does_not_match_is_named_and_nothing_is_loaded(settings, layout):
    published = random_state(settings)
    tensors = without_prefixes(layout(published))
    tensors.pop(next(name for name in tensors if name.endswith("running_var")))
    tensors["head.extra.weight"] = torch.zeros(1)
    backbone = settings.build(3)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(ValueError, match=r"net\.pth: .*running_var is missing, head\.extra\.weight is unknown"):
        backbone.load_published(tensors, "net.pth")
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("settings", [MOBILENET, RESNET])
def test_old_files_lack_the_counters(settings):
    published = {name: value for name, value in random_state(settings).items() if "num_batches" not in name}
    backbone = settings.build(3)
    backbone.load_published(published, "net.pth")
    assert all(torch.equal(backbone.state_dict()[name], value) for name, value in published.items())


def test_weights_in_half_precision_are_kept_in_single():
    backbone = MOBILENET.build(3)
    backbone.load_published({name: value.half() for name, value in random_state(MOBILENET).items()}, "net.pth")
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


def test_the_file_of_another_network_is_refused_by_what_it_is():
    with pytest.raises(ValueError, match=r"names of torchvision's ResNets, and does not fit .* width 1\.0"):
        MOBILENET.build(3).load_published(random_state(RESNET), "net.pth")


def test_a_narrow_resnet_names_the_shapes_and_the_remedy():
    with pytest.raises(
        ValueError, match=r"conv1\.weight is \[64, 3, 7, 7\], not \[16, 3, 7, 7\].*width 64 and norm: batch"
    ):
        TsmResNet18Config(norm="batch").build(3).load_published(random_state(RESNET), "net.pth")


def test_group_norms_cannot_take_batch_norms_statistics():
    with pytest.raises(ValueError, match=r"bn1\.running_mean is unknown.*norm: batch"):
        TsmResNet18Config(width=64).build(3).load_published(random_state(RESNET), "net.pth")


def test_a_first_convolution_of_another_rank_is_named():
    tensors = random_state(MOBILENET)
    tensors["features.0.0.weight"] = tensors["features.0.0.weight"][:, :, None]
    with pytest.raises(ValueError, match=r"features\.0\.0\.weight is \[32, 3, 1, 3, 3\], not \[32, 3, 3, 3\]"):
        MOBILENET.build(3).load_published(tensors, "net.pth")


def test_a_backbone_that_nobody_published_says_so():
    with pytest.raises(ValueError, match=r"net\.pth: none are published for Small3d"):
        Small3dConfig().build(3).load_published({}, "net.pth")
