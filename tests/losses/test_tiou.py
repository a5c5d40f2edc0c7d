"""Overlap of segments, by hand and in its loss."""

import torch

from tadscale.losses.tiou import temporal_iou, tiou_loss


def test_overlaps_by_hand() -> None:
    first = torch.tensor([[0.0, 10.0], [0.0, 10.0], [0.0, 10.0], [2.0, 4.0], [3.0, 3.0]])
    second = torch.tensor([[0.0, 10.0], [5.0, 15.0], [20.0, 30.0], [0.0, 8.0], [3.0, 3.0]])
    expected = torch.tensor([1.0, 5 / 15, 0.0, 2 / 8, 0.0])
    torch.testing.assert_close(temporal_iou(first, second), expected)
    torch.testing.assert_close(tiou_loss(second, first), 1 - expected)


def test_going_down_the_loss_moves_the_prediction_onto_the_target() -> None:
    predicted = torch.tensor([1.0, 6.0], requires_grad=True)
    target = torch.tensor([2.0, 9.0])
    for _ in range(400):
        (gradient,) = torch.autograd.grad(tiou_loss(predicted, target), predicted)
        predicted = (predicted - 0.1 * gradient).detach().requires_grad_()
    torch.testing.assert_close(predicted.detach(), target, atol=0.05, rtol=0)
