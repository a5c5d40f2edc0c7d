"""What every motion modality promises: shape, range, order of channels, T fields for T frames, a fingerprint."""

import hashlib
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from benchmarks.flow_scenes import affine, moving_texture
from tadscale.flow import motion as motion_module
from tadscale.flow.dis import DisConfig
from tadscale.flow.estimator import default_clip_px, luma
from tadscale.flow.motion import MotionConfig, build_motion, motion_channels, window_motion
from tadscale.flow.raft.config import RaftConfig
from tadscale.flow.raft.network import RaftNetwork
from tadscale.flow.tvl1.config import Tvl1Config

FLOWS = ["tvl1", "dis"]
NAMES = [*FLOWS, "temporal_gradient_fast", "temporal_gradient_slow"]
HEIGHT, WIDTH, LENGTH = 48, 64, 9


def panning_video(shift_px=(1.5, -0.75), length=LENGTH):
    """`[1, T, H, W, 3]`: a texture that moves by the same shift between any two frames."""
    frames = []
    for t in range(length):
        motion = affine(HEIGHT, WIDTH, shift_px=(t * shift_px[0], t * shift_px[1]))
        frames.append(moving_texture("pan", HEIGHT, WIDTH, motion).second)
    return torch.from_numpy(np.stack(frames)[None, ..., None].repeat(3, axis=-1))


@pytest.fixture(scope="module")
def video():
    return panning_video()


@pytest.mark.parametrize("name", NAMES)
def test_as_many_fields_as_frames_within_one(name, video):
    motion = build_motion(MotionConfig(name=name))
    fields = motion(video)
    assert fields.shape == (1, motion.channels, LENGTH, HEIGHT, WIDTH)
    assert fields.dtype == torch.float32 and fields.is_contiguous()
    assert fields.abs().max() <= 1 and fields.abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_channels_are_known_without_building(name):
    assert motion_channels(MotionConfig(name=name)) == build_motion(MotionConfig(name=name)).channels


@pytest.mark.parametrize("name", NAMES)
def test_the_last_field_is_repeated(name, video):
    fields = build_motion(MotionConfig(name=name))(video)
    span = 7 if name.endswith("slow") else 1
    for t in range(LENGTH - span, LENGTH):
        assert torch.equal(fields[:, :, t], fields[:, :, LENGTH - span - 1])
    assert not torch.equal(fields[:, :, LENGTH - span - 1], fields[:, :, LENGTH - span - 2])


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_no_motion_and_leaves_the_frames_before_it_alone(name, video):
    motion = build_motion(MotionConfig(name=name))
    short = LENGTH - 1  # 8 frames: enough for the slow gradient
    padded = video.clone()
    padded[:, short:] = 0
    found = window_motion(motion, torch.cat([padded, video]), [short, LENGTH])
    torch.testing.assert_close(found[0, :, :short], motion(video[:, :short])[0], atol=1e-3, rtol=0)
    assert not found[0, :, short:].any()
    torch.testing.assert_close(found[1], motion(video)[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("padding", [0, 3])
def test_a_video_of_one_frame_stands_still(name, padding, video):
    window = torch.nn.functional.pad(video[:, :1], (0, 0, 0, 0, 0, 0, 0, padding))
    motion = build_motion(MotionConfig(name=name))
    assert window_motion(motion, window, [1]).shape == (1, motion.channels, 1 + padding, HEIGHT, WIDTH)
    assert window_motion(motion, window, [1]).abs().max() < 1e-3


@pytest.mark.parametrize("name", FLOWS)
def test_flow_is_pixels_a_frame_over_the_clip_bound(name, video):
    fields = build_motion(MotionConfig(name=name, clip_px=3.0))(video)
    centre = fields[0, :, :, 8:-8, 8:-8].mean((-1, -2))  # [2, T]
    torch.testing.assert_close(centre[0], torch.full((LENGTH,), 1.5 / 3), atol=0.02, rtol=0)
    torch.testing.assert_close(centre[1], torch.full((LENGTH,), -0.75 / 3), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", FLOWS)
def test_flow_beyond_the_bound_is_clipped(name, video):
    fields = build_motion(MotionConfig(name=name, clip_px=0.5))(video)
    assert (fields[0, 0, :, 8:-8, 8:-8] == 1).all() and (fields[0, 1, :, 8:-8, 8:-8] == -1).all()


@pytest.mark.parametrize("name", FLOWS)
def test_mirrored_video_negates_u(name, video):
    motion = build_motion(MotionConfig(name=name))
    fields, mirrored = motion(video), motion(video.flip(3)).flip(-1)
    difference = mirrored * torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1) - fields  # [1, 2, T, H, W]
    assert difference.abs().mean() < 0.1 * fields.abs().mean()


@pytest.mark.parametrize("name", NAMES)
def test_a_window_does_not_depend_on_its_batch(name, video):
    motion = build_motion(MotionConfig(name=name))
    other = panning_video(shift_px=(-2.0, 1.0))
    torch.testing.assert_close(motion(torch.cat([other, video]))[1:], motion(video), atol=1e-3, rtol=0)


def test_default_bound_scales_with_the_shorter_side(video):
    assert default_clip_px(224, 224) == 20 and default_clip_px(112, 200) == 10
    default = build_motion(MotionConfig(name="dis"))(video)
    explicit = build_motion(MotionConfig(name="dis", clip_px=20 * 48 / 224))(video)
    torch.testing.assert_close(default, explicit)


def test_luma_weighs_green_most():
    rgb = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=torch.uint8)
    torch.testing.assert_close(luma(rgb), torch.tensor([76.245, 149.685, 29.07, 255.0]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(1, 9, 3, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 9, 32, 32, 3),
        torch.zeros(9, 32, 32, 3, dtype=torch.uint8),
        torch.zeros(1, 1, 32, 32, 3, dtype=torch.uint8),
    ],
    ids=["channels first", "float", "no batch", "one frame"],
)
def test_wrong_frames_are_refused(name, frames):
    with pytest.raises(ValueError, match=r"uint8|frame"):
        build_motion(MotionConfig(name=name))(frames)


def test_fingerprints_tell_settings_apart():
    configs = [
        *(MotionConfig(name=name) for name in NAMES),
        MotionConfig(name="tvl1", tvl1=Tvl1Config(iterations=7)),
        MotionConfig(name="tvl1", clip_px=20),
        MotionConfig(name="dis", dis=DisConfig(preset="fast")),
        MotionConfig(name="dis", clip_px=20),
        MotionConfig(name="dis", clip_px=10),
    ]
    assert len({config.fingerprint() for config in configs}) == len(configs)
    same = MotionConfig(name="dis", tvl1=Tvl1Config(iterations=7))  # of another method
    assert same.fingerprint() == MotionConfig(name="dis").fingerprint()


# Trained networks keep these strings, and a job refuses a teacher of another motion: they must not change by chance.
FINGERPRINTS = [
    (
        {"name": "tvl1"},
        "tvl1/1(levels=5, warps=3, iterations=20, tau=0.25, data_weight=0.15, theta=0.3) clip_px=20@224",
    ),
    (
        {"name": "tvl1", "tvl1": {"levels": 4, "tau": 0.2, "data_weight": 1}, "clip_px": 20},
        "tvl1/1(levels=4, warps=3, iterations=20, tau=0.2, data_weight=1.0, theta=0.3) clip_px=20",
    ),
    ({"name": "dis"}, "dis(preset=medium) clip_px=20@224"),
    ({"name": "dis", "dis": {"preset": "fast"}, "clip_px": 2.5}, "dis(preset=fast) clip_px=2.5"),
    ({"name": "temporal_gradient_fast"}, "temporal_gradient(span_frames=1)"),
    ({"name": "temporal_gradient_slow"}, "temporal_gradient(span_frames=7)"),
    ({"name": "precomputed", "flow_url": "somewhere"}, "precomputed(8 bits)"),
]


@pytest.mark.parametrize(("settings", "fingerprint"), FINGERPRINTS)
def test_settings_and_built_motion_have_the_fingerprint_that_networks_hold(settings, fingerprint):
    config = MotionConfig(**settings)
    assert config.fingerprint() == fingerprint
    assert build_motion(config).fingerprint() == fingerprint


def test_the_fingerprint_of_a_network_is_known_without_building_it(tmp_path, monkeypatch):
    state = {name: torch.zeros_like(value) for name, value in RaftNetwork("small").state_dict().items()}
    path = tmp_path / "zeros.safetensors"
    safetensors.torch.save_file(state, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    config = MotionConfig(name="raft", raft=RaftConfig(weights=str(path), updates=6))
    expected = f"raft/1(variant=small, updates=6, weights={sha256[:16]}) clip_px=20@224"
    assert build_motion(config).fingerprint() == expected
    monkeypatch.setattr(motion_module, "Raft", None)
    assert config.fingerprint() == expected and motion_channels(config) == 2


@pytest.mark.parametrize("name", NAMES)
def test_motion_can_be_sent_to_another_process(name, video):
    motion = build_motion(MotionConfig(name=name))
    motion(video[:, :8])
    again = pickle.loads(pickle.dumps(motion))
    assert again.fingerprint() == motion.fingerprint()
    assert torch.equal(again(video), motion(video))


@pytest.mark.parametrize(
    "settings",
    [{"name": "raft"}, {"clip_px": 0}, {"clip": 20}, {"name": "temporal_gradient_fast", "clip_px": 20}],
)
def test_meaningless_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        MotionConfig(**settings)


def test_motion_of_a_training_step_takes_no_part_in_gradients(video):
    fields = build_motion(MotionConfig(name="tvl1"))(video[:, :2])
    weight = torch.ones(1, requires_grad=True)
    (fields * weight).sum().backward()  # fails on inference-mode tensors
    assert weight.grad is not None
