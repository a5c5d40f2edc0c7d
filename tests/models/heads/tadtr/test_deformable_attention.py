"""Deformable attention against its equation, one query, head, level and point at a time."""

import pytest
import torch

from tadscale.models.heads.tadtr.deformable_attention import DeformableAttention, Level
from tests.models.heads.tadtr.test_sampling import slow_read

DIM, HEADS, LEVELS, POINTS = 6, 2, 2, 3


@pytest.fixture
def attention() -> DeformableAttention:
    torch.manual_seed(0)
    attention = DeformableAttention(DIM, heads=HEADS, levels=LEVELS, points=POINTS).double()
    for parameter in attention.parameters():  # its start is too even to tell heads and points apart
        parameter.data = torch.randn_like(parameter)
    return attention.requires_grad_(False)


def pyramid() -> list[Level]:
    """Two windows of 8 and 5 valid steps."""
    torch.manual_seed(1)
    mask = torch.arange(8) < torch.tensor([[8], [5]])
    valid = [mask[:, :, None].double(), mask[:, ::2, None].double()]
    return [Level(torch.randn(2, part.shape[1], DIM).double() * part, part) for part in valid]


def slow_attention(attention, query, centre, unit, levels):
    """Zhu et al., ICLR 2021, eq. 3, for one query of one window: `[D]`, number, `[levels]`, levels of `[L_l, D]`."""
    offset = (attention.offset.weight @ query + attention.offset.bias).reshape(HEADS, LEVELS, POINTS)
    weight = (attention.weight.weight @ query + attention.weight.bias).reshape(HEADS, LEVELS * POINTS)
    weight = weight.softmax(dim=1).reshape(HEADS, LEVELS, POINTS)
    width = DIM // HEADS
    heads = []
    for head in range(HEADS):
        channels = slice(head * width, (head + 1) * width)
        total = torch.zeros(width).double()
        for index, level in enumerate(levels):
            value = (level.x @ attention.value.weight.T + attention.value.bias) * level.valid
            for point in range(POINTS):
                place = (centre + float(offset[head, index, point]) * unit[index]) / 2**index
                total = total + weight[head, index, point] * slow_read(value[:, channels], place)
        heads.append(total)
    return attention.out.weight @ torch.cat(heads) + attention.out.bias


@pytest.mark.parametrize("unit", [torch.tensor([1.0, 2.0]), torch.tensor([0.7, 0.7])])
def test_it_equals_its_equation(attention, unit):
    levels, unit = pyramid(), unit.double()
    query, centre = torch.randn(2, 4, DIM).double(), torch.rand(2, 4).double() * 8
    found = attention(query, centre, unit, levels)
    for b in range(2):
        own = [Level(level.x[b], level.valid[b]) for level in levels]
        for q in range(4):
            expected = slow_attention(attention, query[b, q], float(centre[b, q]), unit.tolist(), own)
            torch.testing.assert_close(found[b, q], expected)


def test_at_the_start_heads_have_each_a_part_of_the_places():
    attention = DeformableAttention(DIM, heads=HEADS, levels=LEVELS, points=POINTS)
    bias = attention.offset.bias.reshape(HEADS, LEVELS, POINTS)
    expected = torch.tensor([[[-2.5, -1.5, -0.5]] * LEVELS, [[0.5, 1.5, 2.5]] * LEVELS])
    torch.testing.assert_close(bias.detach(), expected)


def test_invalid_steps_are_not_read(attention):
    levels = pyramid()
    query, centre, unit = torch.randn(2, 4, DIM).double(), torch.rand(2, 4).double() * 8, torch.ones(1).double()
    other = [Level(level.x + 9 * (1 - level.valid), level.valid) for level in levels]
    torch.testing.assert_close(attention(query, centre, unit, levels), attention(query, centre, unit, other))
