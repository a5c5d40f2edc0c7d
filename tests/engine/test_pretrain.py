"""The pretext: what a backbone without labels is asked to predict, and that it learns to."""

import dataclasses

import numpy as np
import pytest
import torch

from tadscale.engine.engine import LocalEngine
from tadscale.engine.optim import OptimConfig
from tadscale.engine.pretrain import LAST_STEPS, STILL, PretrainConfig, measure_scale, pretrain_step, unlearned
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.backbones.video_resnet import R3d18Config
from tadscale.models.pretext import PretextNetwork, luma_and_chroma, on_grid
from tests.engine.conftest import make_batch

SETTINGS = PretrainConfig(motion_weight=2.0)


@pytest.fixture
def batch():
    """Windows with motion, the second half of the second one not there."""
    made = make_batch(0)
    mask = made.mask.clone()
    mask[1, 8:] = False
    motion = torch.rand(2, 2, 16, 16, 16, generator=torch.Generator().manual_seed(1)) - 0.5
    return dataclasses.replace(made, mask=mask, motion_fields=motion)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PretextNetwork(Small3dConfig(width=4), motion_channels=2)


@pytest.fixture
def scale(batch):
    return measure_scale(batch.frames, batch.motion_fields, (8, 2, 2))


def test_chroma_tells_colours_of_one_luma_apart():
    grey, red = torch.tensor([76, 76, 76]), torch.tensor([255, 0, 0])
    pictures = torch.stack([grey, red]).to(torch.uint8).view(1, 2, 1, 1, 3)
    luma, blue, red_difference = luma_and_chroma(pictures)[0, :, :, 0, 0]
    assert luma.tolist() == pytest.approx([76 / 255, 0.299], abs=2e-3)
    assert blue.tolist() == pytest.approx([0, -0.299], abs=2e-3)
    assert red_difference.tolist() == pytest.approx([0, 0.701], abs=2e-3)


def test_targets_are_means_over_the_cells_of_the_grid():
    fields = torch.arange(2 * 4 * 4 * 4.0).view(1, 2, 4, 4, 4)
    cells = on_grid(fields, torch.zeros(1, 5, 2, 2, 2))
    for t, y, x in np.ndindex(2, 2, 2):
        block = fields[0, :, 2 * t : 2 * t + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        torch.testing.assert_close(cells[0, :, t, y, x], block.mean(dim=(1, 2, 3)))


def test_scaled_targets_have_unit_deviation(batch, scale):
    assert float((batch.motion_fields / scale.motion_std).square().mean()) == pytest.approx(1.0, rel=1e-4)
    colour = on_grid(luma_and_chroma(batch.frames), torch.zeros(2, 1, 8, 2, 2))
    standard = (colour - torch.tensor(scale.colour_mean).view(1, 3, 1, 1, 1)) / torch.tensor(scale.colour_std).view(
        1, 3, 1, 1, 1
    )
    assert standard.mean((0, 2, 3, 4)).abs().max() < 1e-4
    torch.testing.assert_close(standard.std((0, 2, 3, 4)), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_weighted_sum_of_its_parts(network, batch, scale):
    parts = pretrain_step(SETTINGS, scale, network, batch)
    torch.testing.assert_close(parts["loss"], 2.0 * parts["motion"] + parts["colour"])


def test_every_stage_is_taught_and_the_last_is_reported(batch):
    """The loss is a sum: without the earlier stages' error it is what the last one's parts say."""
    torch.manual_seed(0)
    network = PretextNetwork(R3d18Config(width=8, norm="group", stride=2), motion_channels=2)
    with torch.no_grad():
        maps = network.backbone.maps(network.backbone.normalise(batch.frames))
        outputs = network(batch.frames, batch.mask)
    scale = measure_scale(batch.frames, batch.motion_fields, tuple(maps.shape[2:]))
    assert [len(output.motion.shape) for output in outputs] == [5] * 4
    parts = pretrain_step(SETTINGS, scale, network, batch)
    parts["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    network.readings = network.readings[-1:]
    every_stage = network.backbone.stages
    network.backbone.stages = lambda video: every_stage(video)[-1:]
    alone = pretrain_step(SETTINGS, scale, network, batch)
    torch.testing.assert_close(alone["loss"], 2.0 * alone["motion"] + alone["colour"])
    torch.testing.assert_close(alone["motion"], parts["motion"])
    assert parts["loss"] > 1.5 * alone["loss"]


def test_steps_that_do_not_exist_and_invalid_windows_weigh_nothing(network, batch, scale):
    changed = batch.motion_fields.clone()
    changed[1, :, 8:] += 5.0
    other = dataclasses.replace(batch, motion_fields=changed)
    assert torch.equal(
        pretrain_step(SETTINGS, scale, network, batch)["motion"],
        pretrain_step(SETTINGS, scale, network, other)["motion"],
    )
    first_alone = dataclasses.replace(batch, valid=torch.tensor([True, False]))
    changed[1] += 3.0
    torch.testing.assert_close(
        pretrain_step(SETTINGS, scale, network, first_alone)["loss"],
        pretrain_step(SETTINGS, scale, network, dataclasses.replace(first_alone, motion_fields=changed))["loss"],
    )


def test_it_learns_to_predict_what_it_sees(network, batch, scale):
    engine = LocalEngine(network, OptimConfig())
    engine.set_lr(5e-3)
    seen = []
    for _ in range(60):
        parts = pretrain_step(SETTINGS, scale, network, batch)
        engine.backward(parts["loss"])
        engine.step()
        seen.append((float(parts["motion_unexplained"]), float(parts["colour_unexplained"])))
    assert seen[0][0] > 0.9 and seen[-1][0] < 0.6
    assert seen[-1][1] < 0.5


def test_what_is_unexplained_is_the_error_over_that_of_the_mean(network, batch, scale):
    parts = pretrain_step(SETTINGS, scale, network, batch)
    for name in ("motion", "colour"):
        assert parts[f"{name}_blind"] > STILL
        torch.testing.assert_close(parts[f"{name}_unexplained"] * parts[f"{name}_blind"], parts[name].detach())


def logged(motion_fields, network, batch, scale):
    """The record of a step with this motion."""
    parts = pretrain_step(SETTINGS, scale, network, dataclasses.replace(batch, motion_fields=motion_fields))
    return {name: float(value.detach()) for name, value in parts.items()}


def test_a_batch_in_which_nothing_moves_says_nothing_of_what_was_learned(network, batch, scale):
    """Where what moves was learned; its own error is small, and nearly nothing is infinitely more than nothing."""
    still = logged(torch.zeros_like(batch.motion_fields), network, batch, scale)
    moving = logged(batch.motion_fields, network, batch, scale)
    learned = moving | {"motion": 0.2 * moving["motion_blind"], "colour": 0.2 * moving["colour_blind"]}
    still |= {"motion": 0.02 * moving["motion_blind"], "colour": 0.2 * still["colour_blind"]}
    assert still["motion_blind"] == 0.0 and still["motion_unexplained"] < 1e3
    assert unlearned([still, *[learned] * (LAST_STEPS - 1)], SETTINGS) == []
    unexplained = learned | {"motion": moving["motion_blind"]}
    assert unlearned([still, *[unexplained] * (LAST_STEPS - 1)], SETTINGS) == ["motion"]
    assert unlearned([still] * LAST_STEPS, SETTINGS) == ["motion"]


def test_logs_of_ratios_alone_are_read():
    """As earlier versions wrote them."""
    step = {"motion": 0.1, "motion_unexplained": 0.2, "colour": 0.3, "colour_unexplained": 0.95}
    assert unlearned([step] * LAST_STEPS, SETTINGS) == ["colour"]
    still = step | {"motion": 0.001, "motion_unexplained": 1e6}
    assert unlearned([still, *[step] * (LAST_STEPS - 1)], SETTINGS) == ["colour"]
