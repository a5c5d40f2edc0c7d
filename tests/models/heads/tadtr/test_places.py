"""The places that encoder and decoder read, in steps of each level, against a plain loop."""

import pytest
import torch
from torch import Tensor

from tadscale.models.heads.tadtr import deformable_attention
from tadscale.models.heads.tadtr.deformable_attention import DeformableAttention, Level
from tadscale.models.heads.tadtr.encoder import Encoder
from tadscale.models.heads.tadtr.transformer import DecoderLayer

DIM, HEADS, POINTS = 8, 2, 3


@pytest.fixture
def read(monkeypatch) -> list[Tensor]:
    """Of each level that is read, one after the other: the places, `[B * HEADS, P * POINTS]`."""
    places: list[Tensor] = []
    interpolate = deformable_attention.interpolate
    monkeypatch.setattr(
        deformable_attention, "interpolate", lambda x, at: (places.append(at.detach()), interpolate(x, at))[1]
    )
    return places


def deaf(attention: DeformableAttention) -> None:
    """Every query has the same offsets, those of the bias."""
    torch.nn.init.zeros_(attention.offset.weight)


def test_an_offset_of_one_is_a_step_of_the_level_that_a_step_reads(read):
    encoder = Encoder(5, DIM, heads=HEADS, levels=3, layers=1, points=POINTS)
    attention = encoder.layers[0].attention
    deaf(attention)
    torch.nn.init.normal_(attention.offset.bias)
    encoder(torch.randn(1, 5, 13), torch.ones(1, 13, dtype=torch.bool))
    offsets = attention.offset.bias.reshape(HEADS, 3, POINTS).tolist()
    readers = [
        step * 2**level for level, steps in enumerate((13, 7, 4)) for step in range(steps)
    ]  # of the finest level
    assert len(read) == 3
    for level, places in enumerate(read):
        for head in range(HEADS):
            expected = [reader / 2**level + offset for reader in readers for offset in offsets[head][level]]
            assert places[head].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_query_begins_by_reading_from_a_width_before_its_centre_to_one_behind_it(read):
    layer = DecoderLayer(DIM, heads=HEADS, levels=2, points=POINTS)
    deaf(layer.cross_attention)
    pyramid = [Level(torch.randn(1, steps, DIM), torch.ones(1, steps, 1)) for steps in (40, 20)]
    extents = [(10.0, 4.0), (24.0, 12.0)]
    layer(torch.randn(1, 2, DIM), torch.randn(1, 2, DIM), torch.tensor([extents]), pyramid)
    assert len(read) == 2
    for level, places in enumerate(read):
        for head in range(HEADS):
            expected = []
            for centre, width in extents:
                part = 2 * width / (HEADS * POINTS)  # each head has some of the equal parts, and reads their middles
                expected += [centre - width + part * (head * POINTS + point + 0.5) for point in range(POINTS)]
            assert places[head].tolist() == pytest.approx([place / 2**level for place in expected])
