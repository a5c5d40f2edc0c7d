"""What every backbone keeps to. A backbone that is added to `BackboneConfig` is held to it at once."""

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from tadscale.config import choices
from tadscale.models.backbones import BackboneConfig
from tadscale.models.backbones.base import Backbone, BackboneSettings, feature_stride

# Settings small enough that a backbone answers in milliseconds; every backbone of `BackboneConfig` has a line.
TINY = {
    "small3d": {"width": 8},
    "tsm_resnet18": {"width": 8},
    "tsm_mobilenet_v2": {},  # at 32 pixels it is small enough as published
    "tsm_r18": {"width": 8},
    "tsm_r50": {"width": 8},
    "i3d": {"width": 8},
    "slowfast_r50": {"width": 32},  # below, units of the fast pathway die at once
    "r3d_18": {"width": 8},
    "mc3_18": {"width": 8},
    "r2plus1d_18": {"width": 8},
    "r2plus1d_34": {"width": 8},
    "vit": {"size": "tiny"},
    "features": {"width": 8},
}
BACKBONES = choices(BackboneConfig)


@pytest.fixture(params=BACKBONES)
def settings(request: pytest.FixtureRequest) -> BackboneSettings:
    name = request.param
    if name not in TINY:
        pytest.fail(f"no tiny settings for the backbone {name!r}: add a line for it to TINY in {Path(__file__).name}")
    torch.manual_seed(0)
    return BACKBONES[name](**TINY[name])


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize(("frames", "size"), [(1, (32, 32)), (7, (40, 48)), (8, (32, 32)), (9, (33, 35))])
def test_one_feature_vector_every_stride_frames(
    settings: BackboneSettings, channels: int, frames: int, size: tuple[int, int]
) -> None:
    backbone = settings.build(channels)
    features = backbone(torch.randn(2, channels, frames, *size))
    assert features.shape == (2, backbone.out_channels, -(-frames // backbone.stride))
    assert features.isfinite().all()


def test_every_parameter_has_a_dimension(settings: BackboneSettings) -> None:
    """DeepSpeed sends parameters as bytes, and a scalar has no such view."""
    assert [name for name, value in settings.build(3).named_parameters() if not value.dim()] == []


def test_it_is_said_whether_layers_never_learn(settings: BackboneSettings) -> None:
    """Norms apart, which are a job's own choice from any start."""
    frozen = [
        name for name, value in settings.build(3).named_parameters() if value.ndim > 1 and not value.requires_grad
    ]
    assert bool(frozen) == bool(settings.frozen_by)
    assert not settings.frozen_by or settings.frozen_by in type(settings).model_fields


def test_the_stride_is_known_before_anything_is_built(settings: BackboneSettings) -> None:
    assert feature_stride(settings) == settings.build(3).stride == settings.build(2).stride


def test_a_step_is_of_the_frames_around_its_offset(settings: BackboneSettings) -> None:
    """Where the input moves a step, in the mean over frames weighted by how much."""
    backbone = settings.build(3).double().eval()
    video = torch.randn(1, 3, 128, 32, 32, dtype=torch.double, requires_grad=True)
    step = 72 // backbone.stride  # far from the ends, and in the middle of a clip of 16
    [slope] = torch.autograd.grad(backbone(video)[0, :, step].square().sum(), video)
    weight = slope.square().sum(dim=(0, 1, 3, 4))
    middle = float((weight * torch.arange(128)).sum() / weight.sum())
    assert middle == pytest.approx(step * backbone.stride + backbone.offset, abs=1.0)


def test_stages_say_their_channels_and_the_last_are_its_maps(settings: BackboneSettings) -> None:
    backbone = settings.build(3).eval()
    if type(backbone).maps is Backbone.maps:
        pytest.skip("it has no maps: what it reads are vectors")
    video = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        stages = backbone.stages(video)
        assert torch.equal(stages[-1], backbone.maps(video))
    assert tuple(maps.shape[1] for maps in stages) == backbone.stage_channels
    assert backbone.stage_channels[-1] == backbone.out_channels


@pytest.mark.parametrize("frames", [1, 7, 8])
def test_a_step_exists_where_its_first_frame_does(settings: BackboneSettings, frames: int) -> None:
    backbone = settings.build(3)
    mask = torch.arange(frames) < torch.tensor([[frames], [1], [0]])
    steps = backbone.steps(mask)
    assert steps.dtype == torch.bool
    assert steps.shape == (3, backbone(torch.zeros(1, 3, frames, 32, 32)).shape[2])
    assert steps.sum(dim=1).tolist() == [steps.shape[1], 1, 0]


def test_pictures_become_what_it_reads(settings: BackboneSettings) -> None:
    frames = torch.stack([torch.zeros(4, 6, 8, 3), torch.full((4, 6, 8, 3), 255.0)]).to(torch.uint8)
    video = settings.build(3).normalise(frames)
    assert video.shape == (2, 3, 4, 6, 8)
    assert video.dtype == torch.float32
    assert (video[1] > video[0]).all()


@pytest.mark.parametrize("frames", [2, 8, 10])
def test_features_and_gradients_of_a_clip_do_not_depend_on_its_batch(settings: BackboneSettings, frames: int) -> None:
    backbone = settings.build(2).double().eval()
    clips, wanted = torch.randn(2, 2, frames, 32, 32).double(), torch.randn(1).double()
    alone, together = backbone(clips[:1]), backbone(clips)[:1]
    torch.testing.assert_close(alone, together)
    trained = [p for p in backbone.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad((f - wanted).square().sum(), trained) for f in (alone, together)]
    torch.testing.assert_close(*gradients)


def test_playing_a_clip_backwards_changes_the_features(settings: BackboneSettings) -> None:
    """A network without temporal extent gives the same features in reverse order: it could never tell left from right."""
    backbone = settings.build(3).eval()
    clip = torch.randn(1, 3, 4 * backbone.stride, 32, 32)  # whole steps: the reverse pools the same frames
    with torch.no_grad():
        forward, backward = backbone(clip), backbone(clip.flip(2)).flip(2)
    assert (forward - backward).abs().max() > 0.01


def test_every_parameter_learns(settings: BackboneSettings) -> None:
    """But for what its settings freeze, such as published norms. In two steps: what lies before a projection that begins at
    zero has no gradient in the first."""
    backbone = settings.build(3)
    trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained
    optimizer = torch.optim.SGD(trained.values(), lr=1e-6)
    for _ in range(2):
        (backbone(torch.randn(2, 3, 8, 32, 32)) - torch.randn(1)).square().sum().backward()
        optimizer.step()  # gradients add up over both
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.any()] == []


def test_checkpointing_keeps_less_and_changes_no_gradient(settings: BackboneSettings) -> None:
    if "checkpoint" not in type(settings).model_fields:
        pytest.skip("it computes nothing again")
    plain, saving = (settings.model_copy(update={"checkpoint": checkpoint}).build(3) for checkpoint in (False, True))
    for parameter in plain.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)  # what begins at zero would hide what lies before it
    saving.load_state_dict(plain.state_dict())
    video = torch.randn(2, 3, 8, 32, 32)
    (kept, gradients), (kept_less, same_gradients) = (_way_back(backbone, video) for backbone in (plain, saving))
    assert kept_less < 0.6 * kept
    torch.testing.assert_close(same_gradients, gradients)


def _way_back(backbone: Backbone, video: torch.Tensor) -> tuple[int, dict[str, torch.Tensor]]:
    """Values that are kept for it, other than the network's own, and the gradients."""
    own = {values.untyped_storage().data_ptr() for values in backbone.state_dict().values()}
    kept = []

    def keep(values: torch.Tensor) -> torch.Tensor:
        if values.untyped_storage().data_ptr() not in own:
            kept.append(values.numel())
        return values

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        features = backbone(video)
    features.square().mean().backward()
    return sum(kept), {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}


def test_features_under_bfloat16_are_close(settings: BackboneSettings) -> None:
    """At 64 pixels: below, ResNet's last stage normalises groups of one or two values, which leaves little but signs."""
    backbone, clip = settings.build(3).eval(), torch.randn(2, 3, 4, 64, 64)
    with torch.no_grad():
        exact = backbone(clip)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = backbone(clip).float()
    assert (rounded - exact).square().mean() < 0.05**2 * exact.var()


def test_the_network_is_exported_by_torch(settings: BackboneSettings) -> None:
    """With the sizes it was traced at; a batch of one is what serving sees last."""
    backbone = settings.build(3).eval()
    exported = torch.export.export(backbone, (torch.randn(1, 3, 7, 32, 32),)).module()
    clip = torch.randn(1, 3, 7, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(exported(clip), backbone(clip))


def test_settings_survive_json_and_build_the_same_twice(settings: BackboneSettings) -> None:
    read = TypeAdapter(BackboneConfig).validate_json(settings.model_dump_json())
    assert read == settings
    states = []
    for described in (settings, read):
        torch.manual_seed(0)
        states.append(described.build(3).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
