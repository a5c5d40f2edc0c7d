"""Layers with the channels last against torch's own with the steps last."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import profile

from tadscale.models.channels_last import MANY_PRODUCTS, Linear, StepLinear, TimeConv, max_pool


@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (1, 6), (2, 6), (2, 1)])
def test_a_convolution_is_that_of_torch(steps, stride, groups):
    settings = {"stride": stride, "padding": 1, "groups": groups}
    ours, plain = TimeConv(6, 6, 3, **settings).double(), nn.Conv1d(6, 6, 3, **settings).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, steps).double().requires_grad_()
    found, expected = ours(x.transpose(1, 2)).transpose(1, 2), plain(x)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    sides = [
        torch.autograd.grad((out * weights).sum(), [x, *layer.parameters()])
        for out, layer in ((found, ours), (expected, plain))
    ]
    torch.testing.assert_close(*sides)


def test_a_linear_map_of_steps_is_a_convolution_of_width_one():
    ours, plain = StepLinear(6, 4), nn.Conv1d(6, 4, 1)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(ours(x), plain(x.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("steps", [1008, 1009], ids=["in equal pictures", "one step too many"])
def test_a_large_linear_map_is_that_of_torch(steps):
    ours, plain = StepLinear(96, 100), nn.Conv1d(96, 100, 1)
    plain.load_state_dict(ours.state_dict())
    assert 2 * steps * ours.weight.numel() > MANY_PRODUCTS
    x = torch.randn(2, steps, 96).requires_grad_()
    expected = plain(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours(x), expected)
    weights = torch.randn_like(expected)
    sides = [
        torch.autograd.grad((out * weights).sum(), [x, *layer.parameters()])
        for out, layer in ((ours(x), ours), (expected, plain))
    ]
    torch.testing.assert_close(*sides, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(2016, 96), (4, 21, 24, 96)])
def test_a_large_linear_layer_is_that_of_torch_whatever_its_leading_axes(shape):
    layer, x = Linear(96, 100), torch.randn(shape)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_a_large_linear_map_is_a_convolution_where_mkl_would_multiply_in_float32():
    layer, x = StepLinear(96, 100), torch.randn(2, 1008, 96)
    with profile() as seen:
        layer(x)
    names = {event.key for event in seen.key_averages()}
    assert ("aten::conv2d" in names) == torch.backends.mkl.is_available()
    with profile() as seen, torch.autocast("cpu", torch.bfloat16):
        layer(x)
    assert "aten::conv2d" not in {event.key for event in seen.key_averages()}


@pytest.mark.parametrize(("channels", "steps"), [(6, 9), (64, 400)], ids=["small", "large"])
def test_a_convolution_gives_the_same_where_nothing_is_learned(channels, steps):
    layer, x = TimeConv(channels, 128, 3, padding=1), torch.randn(2, steps, channels)
    with torch.no_grad():
        unlearned = layer(x)
    torch.testing.assert_close(unlearned, layer(x), rtol=1e-4, atol=1e-5)
    assert unlearned.is_contiguous() == (2 * steps * layer.weight.numel() >= MANY_PRODUCTS)


@pytest.mark.parametrize("steps", [1, 2, 9, 10])
def test_pooling_is_that_of_torch(steps):
    x = torch.randn(2, steps, 4)
    assert torch.equal(max_pool(x, 3, 2), F.max_pool1d(x.transpose(1, 2), 3, 2, padding=1).transpose(1, 2))


def test_what_works_channel_by_channel_keeps_the_channels_side_by_side():
    x = torch.randn(2, 9, 6)
    assert TimeConv(6, 6, 3, padding=1, groups=6)(x).is_contiguous()
    assert max_pool(x, 3, 2).is_contiguous()
