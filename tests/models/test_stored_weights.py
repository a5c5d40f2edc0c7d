"""Weights in fewer bits: by how much they are off, and what they take."""

import pytest
import torch
from torch import nn

from tadscale.models.stored_weights import store_weights


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv3d(3, 16, 3), nn.Conv1d(16, 8, 5, bias=False), nn.Linear(40, 20), nn.LayerNorm(20))
    with torch.no_grad():
        layers[2].weight[3] = 0.0  # a channel that does nothing
        layers[2].weight[4] *= 1000.0  # and one that is much larger than its neighbours
    return layers.requires_grad_(False)


def test_float32_is_left_alone() -> None:
    layers, plain = store_weights(network(), "float32"), network()
    torch.testing.assert_close(dict(layers.state_dict()), dict(plain.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(("precision", "kind"), [("bfloat16", torch.bfloat16), ("int8", torch.int8)])
def test_weights_are_off_by_half_a_step_and_nothing_else_is(precision, kind) -> None:
    plain, stored = network(), store_weights(network(), precision)
    for index in range(3):
        exact, rounded = plain[index].weight, stored[index].weight
        assert rounded.dtype == torch.float32 and stored[index].parametrizations.weight.original0.dtype == kind
        if precision == "bfloat16":
            step = exact.abs() * 2**-7  # 8 bits of mantissa, one of them implied
        else:
            largest = exact.abs().flatten(1).max(dim=1).values  # of each output channel
            step = (largest / 127).reshape(-1, *[1] * (exact.ndim - 1)).expand_as(exact)
        assert ((rounded - exact).abs() <= step / 2 * 1.001).all() and (rounded != exact).any()
    torch.testing.assert_close(stored[0].bias, plain[0].bias, rtol=0, atol=0)
    torch.testing.assert_close(stored[3].state_dict(), plain[3].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("precision", "share"), [("bfloat16", 0.5), ("int8", 0.25)])
def test_they_take_a_half_and_a_quarter(precision, share) -> None:
    def size(module: nn.Module) -> int:
        return sum(tensor.nbytes for tensor in module.state_dict().values() if tensor.ndim > 1)

    assert size(store_weights(network(), precision)) == pytest.approx(share * size(network()), rel=0.1)
