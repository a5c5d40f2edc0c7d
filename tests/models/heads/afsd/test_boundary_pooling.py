"""Boundary pooling against a plain loop, its gradient, and the regions by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tadscale.models.heads.afsd import boundary_pooling
from tadscale.models.heads.afsd.boundary_pooling import boundary_pool, boundary_regions, range_max


def slow_range_max(features: Tensor, regions: Tensor) -> Tensor:
    """One region and one channel at a time: the ends by interpolation, and every whole step between them."""
    steps = features.shape[1]
    out = torch.zeros(features.shape[0], regions.shape[1], features.shape[2], dtype=features.dtype)
    for b in range(features.shape[0]):
        for p, region in enumerate(regions[b].tolist()):
            low, high = (min(max(bound, 0.0), steps - 1.0) for bound in region)
            places = [low, *range(math.ceil(low), math.floor(high) + 1), high]
            for c in range(features.shape[2]):
                out[b, p, c] = np.interp(places, np.arange(steps), features[b, :, c].numpy()).max()
    return out


def regions_of(count: int, steps: int, generator: torch.Generator) -> Tensor:
    """Of all lengths, a third of them between whole steps and some beyond both ends."""
    bounds = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * (steps + 6) - 3
    bounds[:, ::3] = bounds[:, ::3].round()
    bounds[:, 1::5, 1] = bounds[:, 1::5, 0] + 0.3
    return bounds.sort(dim=2).values


@pytest.mark.parametrize("row_values", [1, 2**19])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 33])
def test_it_equals_a_plain_loop(steps: int, row_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All channels at once, and one at a time."""
    monkeypatch.setattr(boundary_pooling, "ROW_VALUES", row_values)
    generator = torch.Generator().manual_seed(steps)
    features = torch.randn(2, steps, 3, generator=generator, dtype=torch.float64)
    regions = regions_of(60, steps, generator)
    torch.testing.assert_close(range_max(features, regions), slow_range_max(features, regions))


def test_the_gradient_goes_to_what_was_strongest() -> None:
    features = torch.tensor([[[1.0], [4.0], [2.0], [3.0], [0.0]]], requires_grad=True)
    range_max(features, torch.tensor([[[0.0, 4.0], [2.0, 3.0], [3.5, 4.0]]])).sum().backward()
    assert features.grad is not None
    assert features.grad.flatten().tolist() == [0.0, 1.0, 0.0, 1.5, 0.5]  # at 3.5 the two neighbours share


def test_gradients_equal_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 9, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    regions = regions_of(12, 9, generator)[:1]
    assert torch.autograd.gradcheck(lambda x: range_max(x, regions), features)


def test_it_is_continuous_in_the_region() -> None:
    """A bound that crosses a step moves the maximum as little as any other."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 12, 5, generator=generator, dtype=torch.float64)
    bounds = torch.linspace(4.0, 8.0, 401, dtype=torch.float64)
    pooled = range_max(features, torch.stack([bounds, torch.full_like(bounds, 8.5)], dim=1)[None])
    slope = features.diff(dim=1).abs().amax()
    assert pooled.diff(dim=1).abs().amax() <= 0.01 * slope + 1e-9


def test_starts_read_the_first_half_of_the_channels_and_ends_the_second() -> None:
    features = torch.arange(24.0).view(1, 6, 4)
    starts, ends = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[3.0, 4.0]]])
    assert boundary_pool(features, (starts, ends)).tolist() == [[[8.0, 9.0, 18.0, 19.0]]]


def test_regions_reach_a_quarter_in_and_a_tenth_out_and_at_least_a_unit() -> None:
    segments = torch.tensor([[20.0, 60.0], [10.0, 12.0]])
    start, end = boundary_regions(segments, unit=1.0, inward=4.0, outward=10.0)
    assert start.tolist() == [[16.0, 30.0], [9.0, 11.0]]
    assert end.tolist() == [[50.0, 64.0], [11.0, 13.0]]
