"""Learning rate and parameter groups."""

import pytest
import torch
from torch import nn

from tadscale.engine.optim import OptimConfig, build_optimizer, learning_rate


def test_rate_warms_up_to_the_peak_and_decays_to_zero():
    config = OptimConfig(epochs=10, lr=1.0, warmup_epochs=2)
    rates = [learning_rate(config, step, steps_per_epoch=5) for step in range(50)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01


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
