"""SGAlign against a slow loop that samples every anchor's features first and projects them afterwards."""

import math

import pytest
import torch
from torch import Tensor

from tadscale.models.heads.gtad.alignment import SubGraphAlignment


def interpolated(sequence: Tensor, point: float) -> Tensor:
    """Features `[D, L]` at a point between steps; beyond the ends they are zero."""
    lower = math.floor(point)
    value = torch.zeros_like(sequence[:, 0])
    for step, weight in ((lower, 1 - (point - lower)), (lower + 1, point - lower)):
        if 0 <= step < sequence.shape[1]:
            value += weight * sequence[:, step]
    return value


def slow_alignment(layer: SubGraphAlignment, sequence: Tensor, start: float, end: float) -> Tensor:
    """One anchor, with half its duration before and after it: `[D_out]`."""
    first, length = start - (end - start) / 2, 2 * (end - start)
    count = layer.places * layer.samples
    parts = []
    for place in range(layer.places):
        points = [first + length * (place * layer.samples + index + 0.5) / count for index in range(layer.samples)]
        parts.append(torch.stack([interpolated(sequence, point) for point in points]).mean(dim=0))
    aligned = torch.cat(parts)  # [places * D_in]
    by_place = layer.project.weight[..., 0].unflatten(0, (layer.places, -1))  # [places, D_out, D_in]
    return by_place.transpose(0, 1).flatten(1) @ aligned


@pytest.mark.parametrize(("places", "samples"), [(1, 1), (4, 1), (5, 3)])
def test_aligned_anchors_equal_a_slow_loop(places, samples):
    torch.manual_seed(0)
    layer = SubGraphAlignment(3, 6, places=places, samples=samples).double()
    x = torch.randn(2, 3, 12).double()
    anchors = torch.tensor([[0, 1], [0, 12], [3, 8], [11, 12], [9, 14]])
    expected = [[slow_alignment(layer, sequence, *anchor) for anchor in anchors.tolist()] for sequence in x]
    torch.testing.assert_close(
        layer(x, anchors), torch.stack([torch.stack(row) for row in expected]), atol=1e-6, rtol=0
    )


def test_gradient_reaches_what_an_anchor_samples_and_nothing_else():
    layer = SubGraphAlignment(3, 6, places=4, samples=1)
    x = torch.randn(1, 3, 20, requires_grad=True)
    layer(x, torch.tensor([[8, 12]])).square().sum().backward()
    read = x.grad.abs().sum(dim=(0, 1)).nonzero().flatten().tolist()
    assert read == [7, 9, 11, 13]  # the middles of four places from 6 to 14
