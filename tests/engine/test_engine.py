"""The state of a network of which a part is frozen."""

import torch
from torch import nn

from tadscale.engine.engine import LocalEngine
from tadscale.engine.optim import OptimConfig
from tadscale.models.backbones.frozen_norm import FrozenBatchNorm2d

CONFIG = OptimConfig(lr=0.1, backbone_lr_factor=0.5)


def network(seed: int) -> nn.Module:
    """A frozen convolution, a frozen norm, and a convolution that learns."""
    torch.manual_seed(seed)
    norm = FrozenBatchNorm2d(4)
    norm.running_mean.normal_()
    frozen = nn.Conv2d(3, 4, 1).requires_grad_(False)
    return nn.Sequential(frozen, norm, nn.Conv2d(4, 2, 1))


def train(engine: LocalEngine, steps: range) -> None:
    engine.model.train()
    for step in steps:
        engine.set_lr(0.01 * (1 + step))
        picture = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        engine.backward(engine.model(picture).square().mean())
        engine.step()


def test_frozen_weights_are_in_the_state_and_have_no_moments():
    engine = LocalEngine(network(0), CONFIG)
    train(engine, range(2))
    names = engine.state(2).tensors.keys()
    assert {name for name in names if name.startswith("model/")} == {f"model/{key}" for key in network(0).state_dict()}
    trained = {"2.weight", "2.bias"}
    assert {name for name in names if not name.startswith("model/")} == {
        f"{moment}/{name}" for moment in ("exp_avg", "exp_avg_sq") for name in trained
    }


def test_a_state_restores_frozen_weights_and_goes_on_to_the_bit():
    whole = LocalEngine(network(0), CONFIG)
    train(whole, range(2))
    half = whole.state(2)
    train(whole, range(2, 4))
    resumed = LocalEngine(network(1), CONFIG)
    resumed.load_state(half)
    train(resumed, range(2, 4))
    end, expected = resumed.state(4).tensors, whole.state(4).tensors
    assert end.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in end.items())
    assert torch.equal(end["model/0.weight"], network(0)[0].weight)
    assert not torch.equal(end["model/2.weight"], half.tensors["model/2.weight"])
