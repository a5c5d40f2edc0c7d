"""Interpolation and RoIAlign against plain loops over places."""

import math

import pytest
import torch
from torch import Tensor

from tadscale.models.heads.tadtr.sampling import interpolate, roi_align


def slow_read(sequence: Tensor, place: float) -> Tensor:
    """One sequence `[L, D]` at one place: every step weighs 1 less its distance, if that is above 0."""
    value = torch.zeros_like(sequence[0])
    for step in range(len(sequence)):
        value = value + max(0.0, 1.0 - abs(place - step)) * sequence[step]
    return value


def test_interpolation_equals_a_slow_loop_also_outside_and_at_the_ends():
    torch.manual_seed(0)
    sequence = torch.randn(3, 7, 4).double()
    places = torch.rand(3, 11).double() * 12 - 3
    places[:, :5] = torch.tensor([0.0, 6.0, 3.0, -1.0, 7.0])
    found = interpolate(sequence, places)
    for n in range(3):
        for p in range(11):
            torch.testing.assert_close(found[n, p], slow_read(sequence[n], float(places[n, p])))


def test_a_place_moves_along_the_slope():
    sequence = torch.tensor([[[1.0], [4.0], [2.0]]])
    place = torch.tensor([[0.25, 1.5]], requires_grad=True)
    interpolate(sequence, place).sum().backward()
    assert place.grad is not None and place.grad.tolist() == [[3.0, -2.0]]


@pytest.mark.parametrize("place", [math.nan, math.inf, -math.inf, 1e30])
def test_places_that_are_no_steps_do_not_index_past_the_end(place):
    """A run that diverges must end in its own error, that its loss is no number."""
    assert interpolate(torch.ones(2, 5, 1), torch.full((2, 1), place)).shape == (2, 1, 1)


def test_roi_align_equals_a_slow_loop():
    torch.manual_seed(1)
    sequence = torch.randn(2, 9, 3).double()
    segments = torch.tensor([[[1.0, 5.0], [0.0, 8.0], [3.3, 3.3]], [[-2.0, 4.0], [6.5, 12.0], [2.25, 2.75]]]).double()
    found = roi_align(sequence, segments, bins=4)
    assert found.shape == (2, 3, 4, 3)
    for b in range(2):
        for q in range(3):
            start, end = segments[b, q].tolist()
            for part in range(4):
                middle = start + (end - start) * (part + 0.5) / 4
                torch.testing.assert_close(found[b, q, part], slow_read(sequence[b], middle))
