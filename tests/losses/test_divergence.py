"""Divergences against their formulas computed number by number."""

import math

import pytest
import torch

from tadscale.losses.divergence import binary_divergence, class_divergence


@pytest.mark.parametrize(("student", "teacher"), [(0.3, -1.0), (-4.0, 2.0), (1.5, 1.0)])
def test_binary_divergence_equals_its_formula(student, teacher):
    q, p = 1 / (1 + math.exp(-student)), 1 / (1 + math.exp(-teacher))
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    found = binary_divergence(torch.tensor(student).double(), torch.tensor(teacher).double())
    assert found.item() == pytest.approx(expected)


def test_class_divergence_equals_its_formula():
    student, teacher = [0.3, -1.0, 2.0], [1.0, 1.5, -0.5]
    q, p = ([math.exp(x) / sum(map(math.exp, logits)) for x in logits] for logits in (student, teacher))
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = class_divergence(torch.tensor(student).double(), torch.tensor(teacher).double())
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("divergence", [binary_divergence, class_divergence])
def test_a_doubtful_teacher_is_equalled_at_no_cost_and_gets_no_gradient(divergence):
    teacher = torch.tensor([[0.1, -0.2, 0.4]], requires_grad=True)
    student = teacher.detach().clone().requires_grad_()
    distance = divergence(student, teacher).sum()
    distance.backward()
    assert distance.item() == pytest.approx(0.0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6  # a minimum
    assert teacher.grad is None
