"""The Hungarian assignment against trying all of them."""

from itertools import permutations

import pytest
import torch

from tadscale.models.heads.tadtr.matching import match


def least_total(cost, columns):
    """The least sum of one-to-one pairs, by trying all."""
    rows = range(len(cost))
    if len(columns) <= len(rows):
        return min(
            sum(float(cost[row, column]) for row, column in zip(chosen, columns, strict=True))
            for chosen in permutations(rows, len(columns))
        )
    return min(
        sum(float(cost[row, column]) for row, column in zip(rows, chosen, strict=True))
        for chosen in permutations(columns, len(rows))
    )


@pytest.mark.parametrize("size", [(5, 3), (4, 4), (3, 5)])
def test_the_total_is_the_least_there_is(size):
    torch.manual_seed(0)
    cost, exists = torch.randn(6, *size), torch.rand(6, size[1]) > 0.3
    exists[0] = False
    answers = match(cost, exists)
    assert (answers[0] == -1).all()
    for window in range(6):
        columns = exists[window].nonzero().flatten().tolist()
        pairs = [(query, n) for query, n in enumerate(answers[window].tolist()) if n >= 0]
        taken = [n for _, n in pairs]
        assert len(set(taken)) == len(taken) == min(size[0], len(columns)) and set(taken) <= set(columns)
        total = sum(float(cost[window, query, n]) for query, n in pairs)
        assert total == pytest.approx(least_total(cost[window], columns), abs=1e-5)


def test_costs_that_are_no_numbers_are_survived():
    cost = torch.tensor([[[float("nan"), 1.0], [2.0, float("inf")]]])
    assert match(cost, torch.ones(1, 2, dtype=torch.bool)).tolist() == [[1, 0]]
