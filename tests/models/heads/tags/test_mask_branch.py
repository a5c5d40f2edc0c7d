"""The embedding and the mask branch against slow loops: attention, positions, barriers."""

import math

import pytest
import torch

from tadscale.models.heads.tags.embedding import GlobalAttention
from tadscale.models.heads.tags.mask_branch import MaskBranch, crossed
from tadscale.models.heads.tags.rotary import rotated


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def slow_rotated(x):
    """Each pair of channels as a complex number, one step at a time."""
    pairs = x.shape[2] // 2
    turned = x.clone()
    for b in range(x.shape[0]):
        for step in range(x.shape[1]):
            for i in range(pairs):
                number = complex(x[b, step, i], x[b, step, i + pairs])
                number *= complex(math.cos(step * 10_000 ** (-i / pairs)), math.sin(step * 10_000 ** (-i / pairs)))
                turned[b, step, i], turned[b, step, i + pairs] = number.real, number.imag
    return turned


def test_rotation_equals_a_slow_loop():
    x = random(2, 9, 6)
    torch.testing.assert_close(rotated(x), slow_rotated(x), atol=1e-5, rtol=0)  # angles are float32


def test_the_product_of_rotated_vectors_depends_on_their_distance_alone():
    query, key = (random(1, 1, 8).expand(-1, 40, -1) for _ in range(2))
    products = (rotated(query) @ rotated(key).transpose(1, 2))[0]
    for distance in (-7, 0, 3):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=0)
    assert abs(products[0, 0] - products[0, 3]) > 1e-2


def slow_attention(attention, x, mask):
    """One window, head and step at a time; only valid steps are looked at."""
    query, key, value = (project(x) for project in attention.projections)
    query, key = slow_rotated_by_head(query, attention.heads), slow_rotated_by_head(key, attention.heads)
    width = x.shape[2] // attention.heads
    mixed = torch.zeros_like(x)
    for b in range(x.shape[0]):
        for first in range(0, x.shape[2], width):
            part = slice(first, first + width)
            for t in range(x.shape[1]):
                seen = [s for s in range(x.shape[1]) if mask[b, s]]
                scores = [math.exp(float(query[b, t, part] @ key[b, s, part]) / math.sqrt(width)) for s in seen]
                for score, s in zip(scores, seen, strict=True):
                    mixed[b, t, part] += score / sum(scores) * value[b, s, part]
    return attention.out(mixed)


def slow_rotated_by_head(x, heads):
    return torch.cat([slow_rotated(part) for part in x.chunk(heads, dim=2)], dim=2)


def test_global_attention_equals_a_slow_loop():
    torch.manual_seed(0)
    attention = GlobalAttention(8, heads=2).double()
    x, mask = random(2, 7, 8), torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    with torch.no_grad():
        torch.testing.assert_close(attention(x, mask), slow_attention(attention, x, mask), atol=1e-5, rtol=0)


def test_what_is_crossed_equals_a_slow_loop():
    barriers = random(2, 9).abs()
    expected = torch.zeros(2, 9, 9, dtype=torch.float64)
    for b in range(2):
        for t in range(9):
            for s in range(9):
                way = range(t + 1, s + 1) if s > t else range(s, t)
                expected[b, t, s] = sum(float(barriers[b, step]) for step in way)
    torch.testing.assert_close(crossed(barriers), expected)


def test_small_barriers_survive_bfloat16():
    """64 + 0.1 is 64 in bfloat16."""
    barriers = torch.tensor([[64.0, 0.1, 0.1]], dtype=torch.bfloat16)
    assert crossed(barriers)[0, 1, 2].item() == pytest.approx(0.1, rel=0.01)


def test_one_set_of_weights_makes_masks_of_any_length():
    branch = MaskBranch(8, 4)
    for length in (1, 5, 33):
        assert branch(torch.randn(2, length, 8), torch.ones(2, length, dtype=torch.bool)).shape == (2, length, length)


def test_a_mask_begins_around_its_snippet_and_falls_off_from_it():
    torch.manual_seed(0)
    branch = MaskBranch(8, 4)
    with torch.no_grad():
        masks = torch.sigmoid(branch(torch.zeros(1, 80, 8), torch.ones(1, 80, dtype=torch.bool)))[0]
    assert masks[40, 40] > 0.8
    assert masks[40, 30] > 0.5 > masks[40, 10]
    assert masks[40, 30] > 0.5 > masks[40, 70]
