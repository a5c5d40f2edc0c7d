"""The transformer against torch's own layers, its clips, what is frozen in it, and VideoMAE's files."""

import pytest
import torch
from torch import nn

from tadscale.models.backbones.vit.backbone import VitConfig, clips_of
from tadscale.models.backbones.vit.positions import clip_positions
from tests.models.backbones.published import files

TINY = VitConfig(size="tiny")
HEADS = 3


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return TINY.build(3)


def shaken(backbone):
    """As if it had been trained, so that a bias left out is seen."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in backbone.named_parameters():
        if "adapter" not in name:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return backbone


def plain_block(block):
    """Torch's own pre-norm layer with a block's weights."""
    dim = block.norm1.weight.numel()
    layer = nn.TransformerEncoderLayer(
        dim, HEADS, 4 * dim, dropout=0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    queries, values = block.attn.q_bias, block.attn.v_bias
    state = {
        "self_attn.in_proj_weight": block.attn.qkv.weight,
        "self_attn.in_proj_bias": torch.cat([queries, torch.zeros_like(queries), values]),
        "self_attn.out_proj.weight": block.attn.proj.weight,
        "self_attn.out_proj.bias": block.attn.proj.bias,
    }
    for ours, torchs in {"mlp.fc1": "linear1", "mlp.fc2": "linear2", "norm1": "norm1", "norm2": "norm2"}.items():
        for parameter in ("weight", "bias"):
            state[f"{torchs}.{parameter}"] = block.get_parameter(f"{ours}.{parameter}")
    layer.load_state_dict(state)
    return layer.eval()


def test_before_the_adapters_learn_every_clip_is_a_plain_transformers(backbone):
    shaken(backbone)
    video = torch.randn(1, 3, 32, 32, 48)
    positions = clip_positions(8, 2, 3, 192).float()
    expected = []
    with torch.no_grad():
        for clip in video.split(16, dim=2):
            tokens = backbone.patch_embed.proj(clip).flatten(2).transpose(1, 2) + positions
            for block in backbone.blocks:
                tokens = plain_block(block)(tokens)
            expected.append(backbone.fc_norm(tokens).view(8, 6, 192).mean(dim=1).T)
        features = backbone(video)[0]
    torch.testing.assert_close(features, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)


def test_a_token_is_two_frames_of_sixteen_pixels(backbone):
    video = torch.randn(1, 3, 16, 32, 32)
    kernel, bias = backbone.patch_embed.proj.weight, backbone.patch_embed.proj.bias
    with torch.no_grad():
        embedded = backbone.patch_embed(video)
        token = (kernel * video[0, :, 6:8, 16:, :16]).sum(dim=(1, 2, 3, 4)) + bias
    torch.testing.assert_close(embedded[0, :, 3, 1, 0], token, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("frames", "clips"), [(1, 1), (16, 1), (17, 2), (40, 3)])
def test_a_window_is_cut_into_clips_and_its_last_frame_stands_still(frames, clips):
    video = torch.arange(2.0 * frames).view(2, 1, frames, 1, 1)
    cut = clips_of(video).view(2, clips, 16)
    for window in range(2):
        seen = [window * frames + min(t, frames - 1) for t in range(16 * clips)]
        assert cut[window].flatten().tolist() == seen


@pytest.mark.parametrize("learned", [False, True])
def test_clips_meet_in_the_adapters_alone(backbone, learned):
    if learned:
        for block in backbone.blocks:
            nn.init.normal_(block.adapter.up.weight, std=0.02)
    video = torch.randn(1, 3, 32, 16, 16)
    changed = video.clone()
    changed[:, :, 16:] = 0
    with torch.no_grad():
        difference = (backbone(video) - backbone(changed))[0, :, :8].abs().max()
    assert bool(difference > 1e-4) == learned


def test_the_trunk_is_frozen_and_the_adapters_and_the_last_norm_are_not(backbone):
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in backbone.named_parameters() if "adapter" in name or "fc_norm" in name}
    with torch.device("meta"):
        thawed = VitConfig(size="tiny", frozen=False).build(3)
    assert all(p.requires_grad for p in thawed.parameters())


@pytest.mark.parametrize(("size", "trunk", "adapters"), [("small", 22, 0.05), ("base", 87, 0.05)])
def test_they_have_the_published_sizes(size, trunk, adapters):
    """VideoMAE's model zoo: 22 and 87 million, with Kinetics' 400 classes. AdaTAD's adapters add some percent."""
    with torch.device("meta"):
        backbone = VitConfig(size=size).build(3)
    sizes = {name: p.numel() for name, p in backbone.named_parameters()}
    in_trunk = sum(count for name, count in sizes.items() if "adapter" not in name)
    assert round((in_trunk + (backbone.out_channels + 1) * 400) / 1e6) == trunk
    assert 0 < (sum(sizes.values()) - in_trunk) / in_trunk < adapters


@pytest.mark.parametrize("layout", [files.videomae, files.videomae_pretrained])
def test_a_file_of_videomae_fills_the_trunk_and_leaves_the_adapters(backbone, layout):
    published = shaken(TINY.build(3)).state_dict()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    tensors = layout(published)
    match = backbone.load_published(tensors, "vit.pth")
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name] if "adapter" in name else published[name]), name
    assert set(match.left_out) == {
        name for name in tensors if name.startswith(("head", "decoder", "mask", "encoder_to"))
    }


def test_a_motion_backbone_gets_the_mean_over_colours():
    published = shaken(TINY.build(3)).state_dict()
    backbone = TINY.build(2)
    backbone.load_published(files.videomae(published), "vit.pth")
    colours = published["patch_embed.proj.weight"].mean(dim=1)
    torch.testing.assert_close(backbone.patch_embed.proj.weight, torch.stack([colours, colours], dim=1) * 3 / 2)


def test_what_does_not_match_is_named_and_nothing_is_loaded(backbone):
    tensors = files.videomae(shaken(TINY.build(3)).state_dict())
    del tensors["blocks.3.attn.v_bias"]
    tensors["blocks.0.gamma_1"] = torch.zeros(192)
    before = backbone.state_dict()["fc_norm.weight"].clone()
    with pytest.raises(
        ValueError, match=r"vit\.pth: .*blocks\.3\.attn\.v_bias is missing, blocks\.0\.gamma_1 is unknown"
    ):
        backbone.load_published(tensors, "vit.pth")
    assert torch.equal(backbone.state_dict()["fc_norm.weight"], before)


def test_the_file_of_another_size_names_the_setting(backbone):
    with torch.device("meta"):
        small = VitConfig(size="small").build(3).state_dict()
    with pytest.raises(ValueError, match=r"is \[384\], not \[192\].*model\.backbone\.size"):
        backbone.load_published(files.videomae(small), "vit.pth")
