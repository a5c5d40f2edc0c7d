"""MobileNetV2 with temporal shift: against a plain one, and what is frozen in it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tadscale.models.backbones.frozen_norm import FrozenBatchNorm2d
from tadscale.models.backbones.tsm_mobilenet_v2 import InvertedResidual, SameConv2d, TsmMobileNetV2Config
from tadscale.weights import read_weights
from tests.models.backbones.plain_mobilenet_v2 import Plain, with_classifier
from tests.models.backbones.published.files import SHIFTED_BLOCKS

PADDINGS = ["torch", "tensorflow"]
PUBLISHED_SIZE = 3_504_872  # torchvision's with its 1,000 classes; the paper says 3.4 million
WEIGHTS = "mobilenet_v2_imagenet.safetensors"


def shaken(backbone):
    """Statistics and affine as if it had been trained, so that a norm left out is seen."""
    generator = torch.Generator().manual_seed(3)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.8), (module.running_var, 0.8), (module.bias, -0.2)):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * 0.4 + low)
            module.running_mean.copy_(torch.rand(module.running_mean.shape, generator=generator) * 0.4 - 0.2)
    return backbone


def pictures(size=(64, 96), frames=2):
    return torch.randn(2, 3, frames, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("padding", PADDINGS)
def test_without_shift_every_frame_is_a_plain_mobilenets(padding):
    torch.manual_seed(0)
    ours = shaken(TsmMobileNetV2Config(padding=padding, shift=False, stride=1).build(3))
    plain = Plain(padding)
    plain.load_state_dict(ours.state_dict())
    video = pictures()
    with torch.no_grad():
        maps = ours.train().maps(video)  # [2, 1280, 2, 2, 3]
        expected = torch.stack([plain(video[:, :, t]) for t in range(2)], dim=2)
    assert maps.shape == (2, 1280, 2, 2, 3)
    assert expected.std() > 0.01
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_paddings_are_not_the_same():
    torch.manual_seed(0)
    ours = {padding: TsmMobileNetV2Config(padding=padding).build(3) for padding in PADDINGS}
    ours["torch"].load_state_dict(ours["tensorflow"].state_dict())
    with torch.no_grad():
        maps = [backbone.maps(pictures()) for backbone in ours.values()]
    assert (maps[0] - maps[1]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "sides"), [(8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (6, 1, 2, (0, 0))]
)
def test_same_padding_puts_the_odd_pixel_right_and_below(size, kernel, stride, sides):
    torch.manual_seed(0)
    conv = SameConv2d(2, 4, kernel, stride)
    x = torch.randn(1, 2, size, size + 2)
    expected = F.conv2d(F.pad(x, (*sides, *sides)), conv.weight, conv.bias, stride)
    assert expected.shape[2] == -(-size // stride)
    torch.testing.assert_close(conv(x), expected)


def test_it_has_the_published_size():
    backbone = TsmMobileNetV2Config().build(3)
    assert sum(p.numel() for p in backbone.parameters()) == PUBLISHED_SIZE - 1281 * 1000
    assert sum(p.numel() for p in with_classifier().parameters()) == PUBLISHED_SIZE
    assert len(backbone.state_dict()) == 312  # torchvision's 314 without its classifier


def test_the_blocks_with_a_skip_connection_shift_and_no_others(monkeypatch):
    shifted = []
    backbone = TsmMobileNetV2Config().build(3)
    module = "tadscale.models.backbones.tsm_mobilenet_v2.temporal_shift"
    for number, block in enumerate(backbone.features):
        if isinstance(block, InvertedResidual):
            monkeypatch.setattr(module, lambda x, frames, first, number=number: shifted.append((number, frames)) or x)
            block(torch.zeros(4, next(block.parameters()).shape[1] if number > 1 else 32, 4, 4), 2)
    assert shifted == [(number, 2) for number in SHIFTED_BLOCKS]


def test_only_with_shift_do_neighbours_matter():
    torch.manual_seed(0)
    video = pictures(frames=4)
    changed = video.clone()
    changed[:, :, 2] = 0
    for shift in (True, False):
        backbone = TsmMobileNetV2Config(shift=shift, stride=1).build(3)
        with torch.no_grad():
            difference = (backbone(video) - backbone(changed)).abs().amax(dim=(0, 1))  # [T]
        assert difference[2] > 0.01
        assert bool((difference[[0, 1, 3]] > 1e-4).all()) == shift


def test_frozen_norms_do_not_change_in_training():
    backbone = shaken(TsmMobileNetV2Config().build(3)).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    video = pictures()
    features = backbone(video)
    features.square().mean().backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    torch.testing.assert_close(features, backbone.eval()(video))
    trained = {name for name, p in backbone.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in backbone.named_parameters() if p.ndim == 4}


def test_norms_that_are_not_frozen_learn_and_count():
    backbone = TsmMobileNetV2Config(frozen_norm=False).build(3).train()
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in backbone.modules())
    backbone(pictures()).square().mean().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    state = backbone.state_dict()
    assert all(value == 1 for name, value in state.items() if name.endswith("num_batches_tracked"))


@pytest.mark.parametrize(("stages", "first_trained"), [(0, 0), (1, 1), (2, 2), (3, 4), (8, 18), (9, 19)])
def test_frozen_stages_are_the_first_rows_of_the_papers_table(stages, first_trained):
    backbone = TsmMobileNetV2Config(frozen_norm=False, frozen_stages=stages).build(3).train()
    for number, layer in enumerate(backbone.features):
        frozen = number < first_trained
        assert all(p.requires_grad != frozen for p in layer.parameters())
        norms = [module for module in layer.modules() if isinstance(module, nn.BatchNorm2d)]
        assert all(isinstance(norm, FrozenBatchNorm2d) == frozen and norm.training != frozen for norm in norms)


def test_checkpointing_would_count_statistics_twice():
    with pytest.raises(ValueError, match="set frozen_norm to true"):
        TsmMobileNetV2Config(checkpoint=True, frozen_norm=False)


def test_from_nothing_pictures_come_through_the_frozen_norms():
    """Its first weights keep variances: with norms that are the identity, features would else vanish or blow up."""
    torch.manual_seed(0)
    with torch.no_grad():
        features = TsmMobileNetV2Config(stride=1, shift=False).build(3)(pictures())
    assert 0.01 < features.std() < 10


def test_pictures_are_normalised_as_the_starts_were():
    frames = torch.randint(0, 256, (1, 2, 4, 5, 3), dtype=torch.uint8)
    by_imagenet = TsmMobileNetV2Config().build(3).normalise(frames)
    green = (frames[0, 1, 2, 3, 1].double() / 255 - 0.456) / 0.224
    assert by_imagenet.shape == (1, 3, 2, 4, 5)
    assert float(by_imagenet[0, 1, 1, 2, 3]) == pytest.approx(float(green), abs=1e-5)
    signed = TsmMobileNetV2Config(normalisation="signed_unit").build(3).normalise(frames)
    torch.testing.assert_close(signed, frames.permute(0, 4, 1, 2, 3) / 127.5 - 1)


@pytest.mark.parametrize("folded", [False, True])
def test_tensorflows_norms_add_what_they_did_to_variances(folded):
    """A thousandth, and not torch's 1e-5; nothing where they are folded into gain and bias."""
    tensors = shaken(Plain("tensorflow")).state_dict()
    for name in [name for name in tensors if name.endswith("running_var")]:
        gain = name.replace("running_var", "weight")
        tensors[name] = torch.ones_like(tensors[name]) if folded else tensors[name] / 100
        tensors[gain] = tensors[gain] * tensors[name].sqrt()  # what comes out is of the size of what went in
    ours = TsmMobileNetV2Config(padding="tensorflow", shift=False, stride=1).build(3)
    ours.load_published(tensors, "net.pth")
    plain = Plain("tensorflow")
    plain.load_state_dict(tensors)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5 if folded else 1e-3
    video = pictures(frames=1).double()
    with torch.no_grad():
        expected = plain.double()(video[:, :, 0]).unsqueeze(2)
        torch.testing.assert_close(
            ours.double().maps(video), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
        )


def test_real_weights_load_whole_and_see_what_the_plain_network_sees(shared_data):
    path = shared_data / "weights" / WEIGHTS
    if not path.is_file():
        pytest.skip(f"no {WEIGHTS} among the real data")
    tensors = read_weights(path.read_bytes(), path.name, WEIGHTS).tensors
    settings = TsmMobileNetV2Config(normalisation="signed_unit", padding="tensorflow", shift=False, stride=1)
    ours, plain = settings.build(3), Plain("tensorflow")
    match = ours.load_published(tensors, WEIGHTS)
    assert set(match.left_out) == {"classifier.1.weight", "classifier.1.bias"}
    assert sum(tensors[name].numel() for name in match.left_out) == 1281 * 1001
    assert sum(match.tensors[name].numel() for name, _ in ours.named_parameters()) == PUBLISHED_SIZE - 1281 * 1000
    plain.load_state_dict({name: tensors[name] for name in match.tensors}, strict=False)
    frames = torch.randint(0, 256, (1, 2, 96, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = ours(ours.normalise(frames))  # [1, 1280, 2]
        expected = plain(frames[0].permute(0, 3, 1, 2) / 127.5 - 1).mean((2, 3))
    torch.testing.assert_close(features[0].T, expected, rtol=1e-4, atol=1e-4)
