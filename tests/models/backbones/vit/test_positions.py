"""Positions against a loop in plain Python, and between the places that were published."""

import math

import torch

from tadscale.models.backbones.vit.positions import SIDE, clip_positions, sinusoid


def test_the_table_is_sines_and_cosines_of_falling_frequency():
    tokens, dim = 7, 6
    expected = torch.zeros(tokens, dim, dtype=torch.float64)
    for place in range(tokens):
        for pair in range(dim // 2):
            angle = place / 10_000 ** (2 * pair / dim)
            expected[place, 2 * pair], expected[place, 2 * pair + 1] = math.sin(angle), math.cos(angle)
    torch.testing.assert_close(sinusoid(tokens, dim), expected)


def test_at_the_published_size_the_positions_are_the_table():
    positions = clip_positions(8, SIDE, SIDE, 12)
    assert torch.equal(positions, sinusoid(8 * 14 * 14, 12))


def test_other_sizes_lie_between_the_published_places_of_the_same_step():
    """Seven places a side: each is as far from two of the fourteen, whose slow channels are nearly straight there."""
    dim, slow = 32, 30  # the slowest sine
    table = sinusoid(8 * SIDE * SIDE, dim).view(8, SIDE, SIDE, dim)
    positions = clip_positions(8, 7, 7, dim).view(8, 7, 7, dim)
    middle = table.view(8, 7, 2, 7, 2, dim).mean(dim=(2, 4))
    torch.testing.assert_close(positions[:, 1:-1, 1:-1, slow], middle[:, 1:-1, 1:-1, slow], rtol=0, atol=1e-3)
    assert clip_positions(8, 2, 3, dim).shape == (8 * 2 * 3, dim)
