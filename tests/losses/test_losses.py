"""Losses against their formulas computed number by number in float64."""

import math

import pytest
import torch

from tadscale.losses.diou import diou_loss
from tadscale.losses.feature import feature_distance
from tadscale.losses.focal import quality_focal, sigmoid_focal


@pytest.mark.parametrize(("logit", "target"), [(0.3, 1.0), (-2.0, 0.0), (4.0, 0.0)])
def test_focal_equals_its_formula(logit, target):
    p = 1 / (1 + math.exp(-logit))
    hit, weight = (p, 0.25) if target else (1 - p, 0.75)
    expected = -weight * (1 - hit) ** 2 * math.log(hit)
    assert sigmoid_focal(torch.tensor(logit).double(), torch.tensor(target).double()).item() == pytest.approx(expected)


@pytest.mark.parametrize(("logit", "target"), [(0.3, 0.9), (-2.0, 0.0), (1.0, 0.5)])
def test_quality_focal_equals_its_formula(logit, target):
    p = 1 / (1 + math.exp(-logit))
    expected = -(abs(target - p) ** 2) * (target * math.log(p) + (1 - target) * math.log(1 - p))
    assert quality_focal(torch.tensor(logit).double(), torch.tensor(target).double()).item() == pytest.approx(expected)


def test_quality_focal_vanishes_at_a_soft_target():
    assert quality_focal(torch.tensor(0.0), torch.tensor(0.5)).item() == 0


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.0, 4.0), (0.0, 4.0), 0.0),
        ((0.0, 4.0), (2.0, 6.0), 1 - 2 / 6 + (2 / 6) ** 2),
        ((0.0, 1.0), (9.0, 10.0), 1 + (9 / 10) ** 2),
        ((3.0, 3.0), (3.0, 3.0), 1.0),
    ],
)
def test_diou_equals_its_formula(a, b, expected):
    assert diou_loss(torch.tensor(a).double(), torch.tensor(b).double()).item() == pytest.approx(expected)


def test_diou_draws_a_distant_segment_closer():
    far = torch.tensor([20.0, 24.0], requires_grad=True)
    diou_loss(far, torch.tensor([0.0, 4.0])).backward()
    assert far.grad is not None
    assert far.grad.sum() > 0  # descending moves it to the left


def test_feature_distance_ignores_scale_and_masked_steps():
    torch.manual_seed(0)
    feature, mask = torch.randn(2, 8, 5).double(), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    other = 3.0 * feature
    other[1, :, 3:] = 99.0
    assert feature_distance(feature, other, mask).max() < 1e-4
    assert feature_distance(feature, torch.randn(2, 8, 5).double(), mask).min() > 0.5


def test_feature_distance_sends_the_teacher_no_gradient():
    student, teacher = torch.randn(1, 4, 3, requires_grad=True), torch.randn(1, 4, 3, requires_grad=True)
    feature_distance(student, teacher, torch.ones(1, 3, dtype=torch.bool)).sum().backward()
    assert student.grad is not None
    assert teacher.grad is None
