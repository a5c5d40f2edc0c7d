"""The pyramid, and that levels laid end to end do not see each other."""

import pytest
import torch
from torch import Tensor, nn

from tadscale.models.heads.afsd.pyramid import ConvNorm, FeaturePyramid, lay_out

STEPS = 13  # levels of 13, 7 and 4


@pytest.fixture
def levels() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    mask = torch.ones(2, STEPS, dtype=torch.bool)
    mask[1, 9:] = False
    return FeaturePyramid(5, 6, levels=3, heads=2, reach=2).double()(
        torch.randn(2, 5, STEPS, dtype=torch.float64), mask
    )


def test_every_level_halves_the_sequence_and_is_zero_where_invalid(levels: list[tuple[Tensor, Tensor]]) -> None:
    assert [tuple(x.shape) for x, _ in levels] == [(2, 6, 13), (2, 6, 7), (2, 6, 4)]
    assert [mask.sum(dim=1).tolist() for _, mask in levels] == [[13, 9], [7, 5], [4, 3]]
    assert all(not x.transpose(1, 2)[~mask].any() for x, mask in levels)


def test_moments_know_their_place(levels: list[tuple[Tensor, Tensor]]) -> None:
    moments = lay_out(levels)
    assert moments.level.tolist() == [0] * 14 + [1] * 8 + [2] * 5
    assert moments.step.tolist() == [*range(14), *range(8), *range(5)]
    assert moments.first.unique().tolist() == [0, 14, 22] and moments.last.unique().tolist() == [12, 20, 25]
    assert not moments.mask[:, [13, 21, 26]].any() and not moments.features[:, :, [13, 21, 26]].any()
    assert moments.mask.sum(dim=1).tolist() == [24, 17]


def test_shared_layers_give_every_level_what_they_give_it_alone(levels: list[tuple[Tensor, Tensor]]) -> None:
    layers = nn.ModuleList(ConvNorm(6, 6) for _ in range(2)).double()
    for layer in layers:  # a bias shows where padding is not kept at zero
        nn.init.ones_(layer.norm.norm.bias)
    moments = lay_out(levels)
    together, begin = moments.features, 0
    for layer in layers:
        together = layer(together, moments.mask)
    for x, mask in levels:
        for layer in layers:
            x = layer(x, mask)
        torch.testing.assert_close(together[:, :, begin : begin + x.shape[2]], x)
        begin += x.shape[2] + 1


def test_regions_stay_in_their_level(levels: list[tuple[Tensor, Tensor]]) -> None:
    moments = lay_out(levels)
    regions = torch.tensor([-4.0, 2.5]).expand(2, 27, 2)
    placed = moments.in_sequence(regions)
    assert placed[0, 0].tolist() == [0.0, 2.5]
    assert placed[0, 15].tolist() == [14.0, 16.5]
    assert moments.in_sequence(torch.tensor([1.0, 90.0]).expand(2, 27, 2))[1, 16].tolist() == [15.0, 20.0]
