"""Balanced weights against the sums that define them."""

import torch

from tadscale.losses.balanced import balanced_weights


def test_the_few_count_as_much_as_the_many():
    positive = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0, 1.0]])
    mask = torch.tensor([[True, True, True, True, False], [True, True, True, True, False]])
    expected = torch.tensor([[1 / 2, 1 / 6, 1 / 6, 1 / 6, 0.0], [1 / 6, 1 / 6, 1 / 6, 1 / 2, 0.0]])
    torch.testing.assert_close(balanced_weights(positive, mask), expected)


def test_a_doubtful_element_belongs_to_both_sides():
    positive, mask = torch.tensor([[0.75, 0.75, 0.25]]), torch.ones(1, 3, dtype=torch.bool)
    on, off = 1.75, 1.25
    expected = [(p / on + (1 - p) / off) / 2 for p in (0.75, 0.75, 0.25)]
    torch.testing.assert_close(balanced_weights(positive, mask), torch.tensor([expected]))


def test_a_window_without_positives_has_half_the_weight_and_an_empty_one_none():
    weights = balanced_weights(torch.zeros(2, 4), torch.tensor([[True] * 4, [False] * 4]))
    torch.testing.assert_close(weights.sum(dim=1), torch.tensor([0.5, 0.0]))
