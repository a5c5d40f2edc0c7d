"""Losses of masks against their formulas computed step by step in float64."""

import math

import pytest
import torch

from tadscale.losses.balanced_bce import balanced_bce
from tadscale.losses.boundary_iou import boundary_iou_loss
from tadscale.losses.dice import dice_loss
from tadscale.losses.divergence import binary_divergence

PREDICTED = [0.1, 0.7, 0.9, 0.4, 0.2]
TARGET = [0.0, 0.25, 1.0, 1.0, 0.0]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_dice_equals_its_formula():
    overlap = 2 * (0.7 * 0.25 + 0.9 + 0.4)
    squares = (0.01 + 0.49 + 0.81 + 0.16 + 0.04) + (0.0625 + 1 + 1)
    assert dice_loss(tensor(PREDICTED), tensor(TARGET)).item() == pytest.approx(1 - overlap / squares)


@pytest.mark.parametrize("loss", [dice_loss, boundary_iou_loss])
def test_masks_that_are_equal_cost_nothing_soft_or_hard(loss):
    both = torch.stack([tensor(TARGET), tensor(PREDICTED)])
    torch.testing.assert_close(loss(both, both), torch.zeros(2).double())
    assert loss(both[0], both[1]) > 0.1


def test_boundary_iou_equals_a_slow_loop():
    steps_of = []
    for mask in (PREDICTED, TARGET):
        padded = [0.0, *mask, 0.0]
        steps_of.append([abs(padded[i + 1] - padded[i]) for i in range(len(padded) - 1)])
    shared = sum(min(pair) for pair in zip(*steps_of, strict=True))
    either = sum(max(pair) for pair in zip(*steps_of, strict=True))
    assert boundary_iou_loss(tensor(PREDICTED), tensor(TARGET)).item() == pytest.approx(1 - shared / either)


def test_boundary_iou_sees_a_shift_that_dice_hardly_does():
    long = torch.zeros(100).double()
    long[10:90] = 1
    shifted = long.roll(1)
    assert dice_loss(shifted, long) < 0.02
    assert boundary_iou_loss(shifted, long) == 1


def test_balanced_bce_equals_a_slow_loop():
    logits, mask = [0.5, -1.0, 3.0, 0.0, -2.0], [True, True, True, True, False]
    missed = invented = foreground = background = 0.0
    for logit, target, counts in zip(logits, TARGET, mask, strict=True):
        if counts:
            p = 1 / (1 + math.exp(-logit))
            missed, foreground = missed - target * math.log(p), foreground + target
            invented, background = invented - (1 - target) * math.log(1 - p), background + 1 - target
    expected = (missed / foreground + invented / background) / 2
    assert balanced_bce(tensor(logits), tensor(TARGET), torch.tensor(mask)).item() == pytest.approx(expected)


def test_empty_masks_have_finite_losses_and_gradients():
    logits = torch.zeros(3, 4, requires_grad=True)
    nothing, mask = torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bool)
    masks = torch.sigmoid(logits) * mask
    (
        dice_loss(masks, nothing) + boundary_iou_loss(masks, nothing) + balanced_bce(logits, nothing, mask)
    ).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_divergence_equals_its_formula_and_is_zero_at_the_teacher():
    p, q = 1 / (1 + math.exp(-0.4)), 1 / (1 + math.exp(1.5))
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert binary_divergence(tensor(-1.5), tensor(0.4)).item() == pytest.approx(expected)
    assert binary_divergence(tensor(0.4), tensor(0.4)).item() == pytest.approx(0)
