"""Temporal IoU in torch against its formula."""

import pytest
import torch

from tadscale.models.tiou import temporal_iou


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.0, 4.0), (0.0, 4.0), 1.0),
        ((0.0, 4.0), (2.0, 6.0), 2 / 6),
        ((0.0, 10.0), (2.0, 4.0), 0.2),
        ((0.0, 1.0), (9.0, 10.0), 0.0),
        ((3.0, 3.0), (3.0, 3.0), 0.0),
    ],
)
def test_temporal_iou_equals_its_formula(a, b, expected):
    assert temporal_iou(torch.tensor(a).double(), torch.tensor(b).double()).item() == pytest.approx(expected)


def test_temporal_iou_of_sets_has_all_pairs():
    first, second = torch.tensor([[0.0, 4.0], [2.0, 3.0]]), torch.tensor([[0.0, 2.0], [2.0, 4.0], [5.0, 6.0]])
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.0]])
    torch.testing.assert_close(temporal_iou(first.unsqueeze(1), second), expected)
