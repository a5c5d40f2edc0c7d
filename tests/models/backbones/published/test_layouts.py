"""Names of published files, listed here from the architectures, in one form.

The counts are those of the files: a ResNet-18 of torchvision holds 122 tensors, a ResNet-50 320, a MobileNetV2 314.
"""

import re

import pytest
import torch

from tadscale.models.backbones.published.layouts import LAYOUTS, detect_layout
from tadscale.models.backbones.tsm_resnet import TsmResNet18Config
from tadscale.weights import match_weights, without_prefixes

NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def conv_and_norm(conv, norm):
    return [f"{conv}.weight", *(f"{norm}.{name}" for name in NORM)]


def linear(name):
    return [f"{name}.weight", f"{name}.bias"]


def torchvision_resnet(blocks, convolutions):
    names = [*conv_and_norm("conv1", "bn1"), *linear("fc")]
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            stem = f"layer{stage}.{block}"
            for n in range(1, convolutions + 1):
                names += conv_and_norm(f"{stem}.conv{n}", f"{stem}.bn{n}")
            if block == 0 and (stage > 1 or convolutions == 3):
                names += conv_and_norm(f"{stem}.downsample.0", f"{stem}.downsample.1")
    return names


def video_resnet(blocks, *, factorised):
    names = conv_and_norm("stem.0", "stem.1") + (conv_and_norm("stem.3", "stem.4") if factorised else [])
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            for conv in ("conv1", "conv2"):
                stem = f"layer{stage}.{block}.{conv}"
                if factorised:
                    names += [*conv_and_norm(f"{stem}.0.0", f"{stem}.0.1"), f"{stem}.0.3.weight"]
                    names += conv_and_norm(f"{stem}.0", f"{stem}.1")[1:]
                else:
                    names += conv_and_norm(f"{stem}.0", f"{stem}.1")
            if stage > 1 and block == 0:
                names += conv_and_norm(f"layer{stage}.0.downsample.0", f"layer{stage}.0.downsample.1")
    return names


RESNET18 = torchvision_resnet([2, 2, 2, 2], 2)
RESNET50 = torchvision_resnet([3, 4, 6, 3], 3)


def torchvision_mobilenet():
    names = [*conv_and_norm("features.0.0", "features.0.1"), *conv_and_norm("features.18.0", "features.18.1")]
    for block in range(1, 18):
        stem = f"features.{block}.conv"
        if block > 1:
            names += conv_and_norm(f"{stem}.0.0", f"{stem}.0.1") + conv_and_norm(f"{stem}.1.0", f"{stem}.1.1")
            names += conv_and_norm(f"{stem}.2", f"{stem}.3")
        else:
            names += conv_and_norm(f"{stem}.0.0", f"{stem}.0.1") + conv_and_norm(f"{stem}.1", f"{stem}.2")
    return names + linear("classifier.1")


def tsm_mobilenet(shifted):
    names = conv_and_norm("features.0.0", "features.0.1") + conv_and_norm("features.18.0", "features.18.1")
    for block in range(1, 18):
        for place in [0, 3] if block == 1 else [0, 3, 6]:
            wrapped = ".net" if block in shifted and place == 0 else ""
            names += conv_and_norm(f"features.{block}.conv.{place}{wrapped}", f"features.{block}.conv.{place + 1}")
    return names


def pyslowfast_resnet50(pathway):
    names = conv_and_norm(f"s1.pathway{pathway}_stem.conv", f"s1.pathway{pathway}_stem.bn")
    for stage, count in zip(range(2, 6), [3, 4, 6, 3], strict=True):
        for block in range(count):
            stem = f"s{stage}.pathway{pathway}_res{block}"
            for letter in "abc":
                names += conv_and_norm(f"{stem}.branch2.{letter}", f"{stem}.branch2.{letter}_bn")
            if block == 0:
                names += conv_and_norm(f"{stem}.branch1", f"{stem}.branch1_bn")
    return names


def inception_i3d():
    units = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
    for mixed in ["3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"]:
        units += [f"Mixed_{mixed}.{branch}" for branch in ["b0", "b1a", "b1b", "b2a", "b2b", "b3b"]]
    names = [name for unit in units for name in conv_and_norm(f"{unit}.conv3d", f"{unit}.bn")]
    return names + linear("logits.conv3d")


def videomae(prefix, norm):
    names = [*linear(f"{prefix}patch_embed.proj"), *linear(f"{prefix}{norm}")]
    for block in range(12):
        stem = f"{prefix}blocks.{block}"
        names += [f"{stem}.attn.q_bias", f"{stem}.attn.v_bias", f"{stem}.attn.qkv.weight", *linear(f"{stem}.attn.proj")]
        names += [name for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2") for name in linear(f"{stem}.{part}")]
    return names


def tsm(names, head="new_fc", wrapped=r"layer.*conv1"):
    """What matches `wrapped` is inside a shift, under `net`."""
    body = [re.sub(f"({wrapped})", r"\1.net", name) for name in names if not name.startswith("fc.")]
    return [f"base_model.{name}" for name in body] + linear(head)


def canonical(names):
    """The layout's name, and the names in the canonical form without what is left out."""
    layout = detect_layout(names, where="net.pth")
    assert layout.unmatched(names) == []
    renamed = [layout.rename(name) for name in names]
    kept = [name for name in renamed if name is not None]
    assert len(set(kept)) == len(kept)
    return layout.name, set(kept)


def without(head, names):
    return {name for name in names if not name.startswith(head)}


SLOWFAST = {f"{path}.{name}" for path in ("slow", "fast") for name in without("fc.", RESNET50)} | {
    name for n in range(1, 5) for name in conv_and_norm(f"fuse{n}.conv", f"fuse{n}.bn")
}


def test_the_lists_here_are_as_long_as_the_files():
    assert (len(RESNET18), len(RESNET50), len(torchvision_mobilenet())) == (122, 320, 314)


@pytest.mark.parametrize("names", [RESNET18, RESNET50])
def test_torchvision_resnets_keep_their_names(names):
    assert canonical(names) == ("torchvision's ResNets", without("fc.", names))


@pytest.mark.parametrize("names", [RESNET18, RESNET50])
@pytest.mark.parametrize("head", ["new_fc", "base_model.fc"])
def test_tsm_resnets_are_resnets(names, head):
    assert "base_model.layer1.0.conv1.net.weight" in tsm(names)
    assert canonical(tsm(names, head)) == ("TSM's ResNets", without("fc.", names))


@pytest.mark.parametrize(
    ("names", "tensors"),
    [
        (video_resnet([2, 2, 2, 2], factorised=False), 122),
        (video_resnet([2, 2, 2, 2], factorised=True), 224),
        (video_resnet([3, 4, 6, 3], factorised=True), 416),
    ],
)
@pytest.mark.parametrize("heads", [["fc"], ["fc1", "fc2"], ["fc1.0", "fc2.0"]])
def test_video_resnets_keep_their_names_and_tsps_are_such(names, tensors, heads):
    assert len([*names, *linear("fc")]) == tensors
    assert canonical([*names, *linear("fc")]) == ("torchvision's video ResNets", set(names))
    wrapped = [f"features.{name}" for name in names] + [name for head in heads for name in linear(head)]
    assert canonical(wrapped) == ("TSP's R(2+1)D", set(names))


def test_tsm_without_shift_is_a_resnet():
    assert canonical(tsm(RESNET50, wrapped="nothing")) == ("TSM's ResNets", without("fc.", RESNET50))


def test_tsm_with_whole_blocks_shifted_is_another_network():
    names = tsm(RESNET50, wrapped=r"layer\d\.\d+")
    layout = detect_layout(names, where="net.pth")
    assert layout.name == "TSM's ResNets"
    assert "base_model.layer1.0.net.conv1.weight" in layout.unmatched(names)


def test_mobilenets_have_torchvisions_names():
    expected = without("classifier", torchvision_mobilenet())
    assert canonical(torchvision_mobilenet()) == ("torchvision's MobileNetV2", expected)
    flat = tsm_mobilenet(shifted=())
    assert canonical([*flat, *linear("classifier")]) == ("TSM's MobileNetV2", expected)
    shifted = [f"base_model.{name}" for name in tsm_mobilenet(shifted=(3, 5, 6, 8, 9, 10, 12, 13, 15, 16))]
    assert canonical([*shifted, *linear("new_fc")]) == ("TSM's MobileNetV2", expected)


def test_the_flat_blocks_convolutions_come_in_order():
    layout = detect_layout(tsm_mobilenet(shifted=()), where="net.pth")
    order = [layout.rename(f"features.4.conv.{place}.weight") for place in (0, 1, 3, 4, 6, 7)]
    assert order == [f"features.4.conv.{place}.weight" for place in ("0.0", "0.1", "1.0", "1.1", "2", "3")]


def test_pyslowfast_of_one_pathway_is_a_resnet():
    names = [*pyslowfast_resnet50(0), *linear("head.projection")]
    assert canonical(names) == ("PySlowFast's C2D, I3D, Slow", without("fc.", RESNET50))


def test_slowfast_is_two_resnets_and_what_fuses_them():
    fuse = [name for n in range(1, 5) for name in conv_and_norm(f"s{n}_fuse.conv_f2s", f"s{n}_fuse.bn")]
    names = [*pyslowfast_resnet50(0), *pyslowfast_resnet50(1), *fuse, *linear("head.projection")]
    assert canonical(names) == ("PySlowFast's SlowFast", SLOWFAST)


def pytorchvideo_slowfast():
    names = linear("blocks.6.proj")
    for pathway in (0, 1):
        stem = f"blocks.0.multipathway_blocks.{pathway}"
        names += conv_and_norm(f"{stem}.conv", f"{stem}.norm")
        for block, count in zip(range(1, 5), [3, 4, 6, 3], strict=True):
            for n in range(count):
                stem = f"blocks.{block}.multipathway_blocks.{pathway}.res_blocks.{n}"
                for letter in "abc":
                    names += conv_and_norm(f"{stem}.branch2.conv_{letter}", f"{stem}.branch2.norm_{letter}")
                if n == 0:
                    names += conv_and_norm(f"{stem}.branch1_conv", f"{stem}.branch1_norm")
    for block in range(4):
        stem = f"blocks.{block}.multipathway_fusion"
        names += conv_and_norm(f"{stem}.conv_fast_to_slow", f"{stem}.norm")
    return names


def test_pytorchvideos_slowfast_is_the_same():
    assert canonical(pytorchvideo_slowfast()) == ("PyTorchVideo's SlowFast", SLOWFAST)


def test_i3d_keeps_its_names():
    assert canonical(inception_i3d()) == ("pytorch-i3d", without("logits", inception_i3d()))


def test_videomae_is_one_network_before_and_after_fine_tuning():
    expected = set(videomae("", "fc_norm"))
    assert canonical([*videomae("", "fc_norm"), *linear("head")]) == ("VideoMAE's ViT", expected)
    decoder = ["mask_token", "encoder_to_decoder.weight", "decoder.blocks.0.attn.q_bias", *linear("decoder.head")]
    pretrained = [*videomae("encoder.", "norm"), *decoder]
    assert canonical(pretrained) == ("VideoMAE's ViT before fine-tuning", expected)


def test_no_file_bears_the_marks_of_two_layouts_that_stand_in_the_wrong_order():
    video = video_resnet([3, 4, 6, 3], factorised=True)
    files = [RESNET50, video, [f"features.{name}" for name in video], tsm(RESNET50), torchvision_mobilenet()]
    files += [tsm_mobilenet(()), inception_i3d()]
    files += [videomae("", "fc_norm"), videomae("encoder.", "norm")]
    files += [pyslowfast_resnet50(0) + pyslowfast_resnet50(1), pytorchvideo_slowfast(), pyslowfast_resnet50(0)]
    assert [detect_layout(names, where="net.pth") for names in files] == list(LAYOUTS)


def test_names_of_parts_that_a_plain_network_lacks_are_reported():
    names = [*tsm(RESNET50), "base_model.layer2.0.nl.g.weight"]
    layout = detect_layout(names, where="net.pth")
    assert layout.unmatched(names) == ["base_model.layer2.0.nl.g.weight"]
    assert layout.rename("base_model.layer2.0.nl.g.weight") == "base_model.layer2.0.nl.g.weight"


def test_an_unknown_layout_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"net\.pth: .*\(blocks\.0\.weight, .* in no layout .*torchvision's Res"):
        detect_layout(["blocks.0.weight", "blocks.0.bias"], where="net.pth")


def test_a_wrapped_tsm_file_fits_our_network_but_for_its_norms():
    """Ours are group norms: they have no running statistics."""
    plain = [name for name in RESNET18 if not name.startswith("fc.")]
    with torch.device("meta"):
        network = TsmResNet18Config(width=64).build(3)
        ours = network.state_dict() | {name: torch.empty(10) for name in linear("new_fc")}
        names = zip([*plain, *linear("new_fc")], tsm(RESNET18), strict=True)
        published = {f"module.{wrapped}": ours.get(name, torch.empty(1)) for name, wrapped in names}
    tensors = without_prefixes(published)
    match = match_weights(network, tensors, detect_layout(tensors, where="net.pth").rename)
    assert match.missing == () and match.misshapen == ()
    assert match.left_out == ("new_fc.weight", "new_fc.bias")
    assert {name.rsplit(".", 1)[1] for name in match.unexpected} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
