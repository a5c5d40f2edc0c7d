"""Learning rate and parameter groups."""

import pytest
import torch
from torch import nn

from tadscale.engine.engine import LocalEngine
from tadscale.engine.optim import OptimConfig, build_optimizer, learning_rate


def test_rate_warms_up_to_the_peak_and_decays_to_zero():
    config = OptimConfig(epochs=10, lr=1.0, warmup_epochs=2)
    rates = [learning_rate(config, step, steps_per_epoch=5) for step in range(50)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("warmup_epochs", [0.5, 1.0, 2.0, 40.0])
@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(1, 7), (1, 1), (2, 5), (3, 4)])
def test_every_training_reaches_its_peak_by_half_of_its_steps(warmup_epochs, epochs, steps_per_epoch):
    config = OptimConfig(epochs=epochs, lr=1.0, warmup_epochs=warmup_epochs)
    steps = epochs * steps_per_epoch
    rates = [learning_rate(config, step, steps_per_epoch) for step in range(steps)]
    peak = rates.index(max(rates))
    assert rates[peak] == 1.0
    assert peak <= steps / 2
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 10])
def test_a_warm_up_of_half_is_as_long_as_it_says(steps_per_epoch):
    """To the step, rounding included."""
    config = OptimConfig(epochs=5, lr=1.0, warmup_epochs=2.5)
    steps = round(2.5 * steps_per_epoch)
    rates = [learning_rate(config, step, steps_per_epoch) for step in range(steps)]
    assert rates == [(step + 1) / steps for step in range(steps)]


def test_only_matrices_decay():
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.LayerNorm(3))
    decay = {
        id(p): group["weight_decay"]
        for group in build_optimizer(model, OptimConfig()).param_groups
        for p in group["params"]
    }
    assert [decay[id(p)] for p in model.parameters()] == [0.05, 0.0, 0.0, 0.0]


def test_frozen_parameters_are_left_out():
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    assert sum(len(group["params"]) for group in build_optimizer(model, OptimConfig()).param_groups) == 1
    assert torch.is_tensor(model.bias)


@pytest.fixture
def network() -> nn.Module:
    """A backbone of which the first layer is frozen, and a head."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    backbone[0].requires_grad_(False)
    return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(3, 2)})


def rates(engine: LocalEngine) -> dict[str, float]:
    """The learning rate of every parameter that the optimiser has, by name."""
    names = {parameter: name for name, parameter in engine.model.named_parameters()}
    groups = engine._optimizer.param_groups
    return {names[parameter]: group["lr"] for group in groups for parameter in group["params"]}


def test_the_backbone_learns_by_its_factor_at_every_rate(network):
    engine = LocalEngine(network, OptimConfig(lr=0.5, backbone_lr_factor=0.1))
    assert rates(engine)["backbone.1.weight"] == pytest.approx(0.05)
    for rate in (1.0, 0.2, 0.0):
        engine.set_lr(rate)
        found = rates(engine)
        assert set(found) == {"backbone.1.weight", "backbone.1.bias", "head.weight", "head.bias"}
        assert found["backbone.1.weight"] == found["backbone.1.bias"] == pytest.approx(0.1 * rate)
        assert found["head.weight"] == found["head.bias"] == rate


def test_a_factor_of_one_makes_no_groups_of_its_own(network):
    groups = build_optimizer(network, OptimConfig()).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(2, 0.05), (2, 0.0)]
    groups = build_optimizer(network, OptimConfig(backbone_lr_factor=0.1)).param_groups
    assert sorted(group["weight_decay"] for group in groups) == [0.0, 0.0, 0.05, 0.05]


def test_a_backbone_that_does_not_learn_is_frozen_by_its_own_settings():
    with pytest.raises(ValueError, match="backbone_lr_factor"):
        OptimConfig(backbone_lr_factor=0.0)
