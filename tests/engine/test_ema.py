"""The average of the weights."""

import torch
from torch import nn

from tadscale.engine.ema import Ema


def test_average_follows_the_weights_with_its_decay():
    model = nn.Linear(1, 1, bias=False)
    ema = Ema(model, decay=0.5)
    expected = model.weight.item()
    for step in range(20):
        with torch.no_grad():
            model.weight.fill_(float(step))
        ema.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert abs(ema.tensors["weight"].item() - expected) < 1e-5


def test_counters_are_copied_and_not_averaged():
    model = nn.BatchNorm1d(2)
    ema = Ema(model, decay=0.9)
    model.num_batches_tracked.fill_(7)
    ema.update(model, 0)
    assert ema.tensors["num_batches_tracked"].item() == 7


def test_loading_continues_from_the_stored_average():
    model = nn.Linear(2, 2)
    ema = Ema(model, decay=0.9)
    ema.load({name: torch.full_like(value, 3.0) for name, value in ema.tensors.items()})
    assert all((value == 3).all() for value in ema.tensors.values())
