"""RAFT: its operations against their definitions, its weights' names and files, and what the estimator promises.

No trained weights are at hand here, so nothing is said of the flow's accuracy: random ones show the rest.
"""

import copy
import pickle

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from tadscale.flow.motion import MotionConfig, build_motion
from tadscale.flow.raft import estimator as raft_module
from tadscale.flow.raft.config import RaftConfig
from tadscale.flow.raft.estimator import Raft
from tadscale.flow.raft.network import RaftNetwork
from tadscale.flow.raft.operations import (
    PYRAMID_LEVELS,
    correlation_pyramid,
    lookup,
    upsample_bilinear,
    upsample_convex,
)


def random_state(variant, seed=0):
    torch.manual_seed(seed)
    return RaftNetwork(variant).state_dict()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights of both variants: `small.pth`, `small.safetensors`, `large.pth`."""
    folder = tmp_path_factory.mktemp("weights")
    small = random_state("small")
    torch.save(small, folder / "small.pth")
    safetensors.torch.save_file(small, folder / "small.safetensors")
    torch.save(random_state("large"), folder / "large.pth")
    return folder


@pytest.fixture(scope="module")
def raft(files):
    return Raft(RaftConfig(weights=str(files / "small.pth"), updates=2))


def frames_of(count, height=128, width=136, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, count, height, width), dtype=torch.uint8, generator=generator).unbind()


# The network


@pytest.mark.parametrize(
    ("variant", "parameters", "entries", "some"),
    [
        (
            "small",
            990_162,
            106,
            {
                "feature_encoder.convnormrelu.0.weight": [32, 3, 7, 7],
                "feature_encoder.layer3.0.downsample.0.bias": [96],
                "context_encoder.layer1.1.convnormrelu3.0.weight": [32, 8, 1, 1],
                "update_block.motion_encoder.convcorr1.0.weight": [96, 196, 1, 1],
                "update_block.recurrent_block.convgru1.convq.weight": [96, 242, 3, 3],
            },
        ),
        (
            "large",
            5_257_536,
            169,
            {
                "context_encoder.layer2.0.downsample.1.running_var": [96],
                "context_encoder.conv.weight": [256, 128, 1, 1],
                "update_block.motion_encoder.convcorr2.0.weight": [192, 256, 3, 3],
                "update_block.recurrent_block.convgru2.convz.weight": [128, 384, 5, 1],
                "update_block.flow_head.conv2.weight": [2, 256, 3, 3],
                "mask_predictor.convrelu.0.weight": [256, 128, 3, 3],
                "mask_predictor.conv.weight": [576, 256, 1, 1],
            },
        ),
    ],
)
def test_names_and_sizes_are_the_published_ones(variant, parameters, entries, some):
    network = RaftNetwork(variant)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert len(shapes) == entries
    assert {name: shapes.get(name) for name in some} == some


@pytest.mark.parametrize("variant", ["small", "large"])
def test_flow_has_the_frames_size_and_moves_with_updates(variant):
    network = RaftNetwork(variant).eval()
    frames = torch.rand(2, 1, 3, 128, 136) * 2 - 1
    with torch.no_grad():
        one, three = network(*frames, updates=1), network(*frames, updates=3)
    assert one.shape == three.shape == (1, 2, 128, 136)
    assert not torch.allclose(one, three)


# The operations


def sample(plane, y, x):
    """Bilinear interpolation of `[h, w]` at one point, zero outside."""
    total = 0.0
    for row in range(plane.shape[0]):
        for column in range(plane.shape[1]):
            total += max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column)) * plane[row, column].item()
    return total


def test_correlation_is_the_scaled_product_of_all_pairs():
    a, b = torch.rand(2, 2, 5, 16, 18, dtype=torch.float64)
    levels = correlation_pyramid(a, b)
    assert [list(level.shape[2:]) for level in levels] == [[16, 18], [8, 9], [4, 4], [2, 2]]
    volume = levels[0].view(2, 16, 18, 16, 18)
    assert volume[1, 3, 4, 15, 7].item() == pytest.approx((a[1, :, 3, 4] * b[1, :, 15, 7]).sum().item() / 5**0.5)
    pooled = volume[0, 2, 9, 4:8, 8:12].mean()  # level 2: 4 x 4 positions
    assert levels[2].view(2, 16, 18, 4, 4)[0, 2, 9, 1, 2].item() == pytest.approx(pooled.item())


@pytest.mark.parametrize("radius", [1, 2])
def test_lookup_against_its_definition(radius):
    generator = torch.Generator().manual_seed(0)
    height, width = 2, 3
    levels = [
        torch.rand(2 * height * width, 1, 16 >> level, 20 >> level, dtype=torch.float64, generator=generator)
        for level in range(PYRAMID_LEVELS)
    ]
    # Between positions, on one, and outside.
    positions = torch.rand(2, 2, height, width, dtype=torch.float64, generator=generator) * 24 - 4
    positions[0, :, 0, 0] = torch.tensor([7.0, 15.0])
    found = lookup(levels, positions, radius)
    expected = torch.empty_like(found)
    for batch in range(2):
        for row in range(height):
            for column in range(width):
                x, y = positions[batch, :, row, column].tolist()
                planes = [level[(batch * height + row) * width + column, 0] for level in levels]
                expected[batch, :, row, column] = torch.tensor(
                    [
                        sample(plane, y / 2**level + dy, x / 2**level + dx)
                        for level, plane in enumerate(planes)
                        for dx in range(-radius, radius + 1)
                        for dy in range(-radius, radius + 1)
                    ],
                    dtype=torch.float64,
                )
    torch.testing.assert_close(found, expected)


def test_convex_upsampling_against_its_definition():
    flow = torch.rand(1, 2, 2, 3, dtype=torch.float64)
    mask = torch.randn(1, 576, 2, 3, dtype=torch.float64)
    expected = torch.zeros(1, 2, 16, 24, dtype=torch.float64)
    for y in range(16):
        for x in range(24):
            row, column = y // 8, x // 8
            logits = torch.stack([mask[0, n * 64 + (y % 8) * 8 + x % 8, row, column] for n in range(9)])
            for n, weight in enumerate(logits.softmax(0)):
                r, c = row + n // 3 - 1, column + n % 3 - 1
                if 0 <= r < 2 and 0 <= c < 3:
                    expected[0, :, y, x] += 8 * weight * flow[0, :, r, c]
    torch.testing.assert_close(upsample_convex(flow, mask), expected)


def test_bilinear_upsampling_scales_to_pixels_and_keeps_corners():
    flow = torch.rand(1, 2, 3, 4)
    full = upsample_bilinear(flow)
    assert full.shape == (1, 2, 24, 32)
    torch.testing.assert_close(full[..., [0, 0, -1, -1], [0, -1, 0, -1]], 8 * flow[..., [0, 0, -1, -1], [0, -1, 0, -1]])


# The estimator


@pytest.mark.parametrize("size", [(128, 136), (129, 143), (131, 128)])
def test_any_size_gives_a_field_of_that_size(raft, size):
    flow = raft.flow(*frames_of(2, *size))
    assert flow.shape == (2, 2, *size) and flow.dtype == torch.float32 and flow.isfinite().all()


def test_padding_repeats_borders_around_the_frames(raft):
    first, second = frames_of(1, 130, 141)
    padded = [torch.nn.functional.pad(f[None].float(), (1, 2, 3, 3), mode="replicate")[0] for f in (first, second)]
    torch.testing.assert_close(raft.flow(first, second), raft.flow(*padded)[..., 3:133, 1:142])


def test_frames_are_scaled_as_for_training(raft):
    first, second = frames_of(1)
    colour = [f[:, None].expand(-1, 3, -1, -1) / 255 * 2 - 1 for f in (first, second)]
    expected = raft._network(*colour, updates=2)
    torch.testing.assert_close(raft.flow(first, second), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(raft.flow(first.double(), second.double()), expected, atol=1e-4, rtol=1e-4)


def test_chunks_make_no_difference(raft, monkeypatch):
    frames = frames_of(3)
    whole = raft.flow(*frames)
    monkeypatch.setattr(raft_module, "CHUNK_BYTES", 2 * raft_module._bytes_a_pair(128, 136))
    torch.testing.assert_close(raft.flow(*frames), whole, atol=1e-3, rtol=1e-4)
    monkeypatch.setattr(raft_module, "CHUNK_BYTES", 1)
    torch.testing.assert_close(raft.flow(*frames), whole, atol=1e-3, rtol=1e-4)


def test_no_pairs_give_no_flow(raft):
    assert raft.flow(*frames_of(0)).shape == (0, 2, 128, 136)


@pytest.mark.parametrize("size", [(127, 200), (200, 112)])
def test_small_frames_are_refused(raft, size):
    with pytest.raises(ValueError, match=f"128 px a side, got {size[0]} x {size[1]}"):
        raft.flow(*frames_of(1, *size))


def test_inference_mode_changes_nothing(files):
    frames = frames_of(1)
    config = RaftConfig(variant="large", weights=str(files / "large.pth"), updates=1)
    with torch.inference_mode():
        raft = Raft(config)
        inside = raft.flow(*frames)
    outside = raft.flow(*frames)
    assert torch.equal(inside, outside) and not outside.requires_grad
    (outside * torch.ones(1, requires_grad=True)).sum().backward()  # fails on inference-mode tensors


def test_it_can_be_sent_to_another_process(raft):
    again = pickle.loads(pickle.dumps(raft))
    frames = frames_of(1)
    assert again.fingerprint() == raft.fingerprint() and torch.equal(again.flow(*frames), raft.flow(*frames))


# Weights


def test_both_kinds_of_file_hold_the_same_weights(files):
    rafts = [Raft(RaftConfig(weights=str(files / f"small.{kind}"), updates=1)) for kind in ("pth", "safetensors")]
    frames = frames_of(1)
    assert torch.equal(rafts[0].flow(*frames), rafts[1].flow(*frames))
    for name, value in random_state("small").items():
        assert torch.equal(rafts[1]._network.state_dict()[name], value)


def test_loading_leaves_the_random_state_alone(files):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Raft(RaftConfig(weights=str(files / "small.pth")))
    assert torch.equal(torch.rand(1), expected)


def test_the_fingerprint_is_of_the_weights_that_were_read(files, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes((files / "small.pth").read_bytes())
    config = RaftConfig(weights=str(path))
    raft, before = Raft(config), config.fingerprint()
    assert raft.fingerprint() == before
    torch.save(random_state("small", seed=9), path)
    assert raft.fingerprint() == before != config.fingerprint()


@pytest.mark.parametrize("variant", ["small", "large"])
def test_no_weights_are_refused_with_the_name_of_the_file_to_give(variant, tmp_path):
    with pytest.raises(ValueError, match=rf"torchvision's raft_{variant}_C_T_\w+-\w+\.pth.*nothing is downloaded"):
        Raft(RaftConfig(variant=variant))
    with pytest.raises(ValueError, match=rf"absent\.pth: no such file.*raft_{variant}_C_T"):
        Raft(RaftConfig(variant=variant, weights=str(tmp_path / "absent.pth")))


def test_weights_of_another_network_are_refused(files, tmp_path):
    with pytest.raises(ValueError, match=r"not those of RAFT large: .* is missing, .* is missing, .* and \d+ more"):
        Raft(RaftConfig(variant="large", weights=str(files / "small.pth")))
    state = random_state("small")
    state["module.conv.weight"] = state.pop("feature_encoder.conv.weight")
    torch.save(state, tmp_path / "renamed.pth")
    with pytest.raises(ValueError, match=r"feature_encoder\.conv\.weight is missing, module\.conv\.weight is unknown"):
        Raft(RaftConfig(weights=str(tmp_path / "renamed.pth")))
    state = random_state("small") | {"feature_encoder.conv.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(ValueError, match=r"feature_encoder\.conv\.bias is \[3\], not \[128\]"):
        Raft(RaftConfig(weights=str(tmp_path / "shape.pth")))


class Bomb:
    """Unpickled without care, it would run code."""

    def __reduce__(self):
        return copy.copy, (1,)


@pytest.mark.parametrize("name", ["random.pth", "random.safetensors", "cut.pth", "cut.safetensors", "code.pth"])
def test_unreadable_weights_are_refused(files, tmp_path, name):
    path = tmp_path / name
    if name.startswith("cut"):
        path.write_bytes((files / f"small{path.suffix}").read_bytes()[:100_000])
    elif name == "code.pth":
        torch.save({"weight": Bomb()}, path)
    else:
        path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as"):
        Raft(RaftConfig(weights=str(path)))


def test_a_checkpoint_of_a_wrapped_network_is_read(files, tmp_path):
    wrapped = {f"module.{name}": value for name, value in random_state("small").items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "checkpoint.pth")
    frames = frames_of(1)
    rafts = [
        Raft(RaftConfig(weights=str(path), updates=1)) for path in (tmp_path / "checkpoint.pth", files / "small.pth")
    ]
    assert torch.equal(rafts[0].flow(*frames), rafts[1].flow(*frames))


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    torch.save({"network": random_state("small"), "epoch": 3}, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="no dictionary of tensors"):
        Raft(RaftConfig(weights=str(tmp_path / "checkpoint.pth")))
    with pytest.raises(ValueError, match=r"motion\.raft\.weights .*ends in .*\.pth.* or \.safetensors"):
        Raft(RaftConfig(weights=__file__))


# The motion modality


def test_motion_by_name(files):
    config = MotionConfig(name="raft", raft=RaftConfig(weights=str(files / "small.pth"), updates=1))
    motion = build_motion(config)
    frames = torch.randint(0, 256, (2, 3, 128, 128, 3), dtype=torch.uint8)
    fields = motion(frames)
    assert fields.shape == (2, motion.channels, 3, 128, 128) and fields.abs().max() <= 1
    assert motion.fingerprint().startswith("raft/1(variant=small, updates=1, weights=")


def test_a_job_without_weights_is_refused_before_it_runs():
    with pytest.raises(ValidationError, match=r"raft_small_C_T_V2-01064c6d\.pth"):
        MotionConfig(name="raft")
