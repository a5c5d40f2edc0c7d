"""The split of ground truth and distillation: measured rightly, and balanced where that is asked for."""

import dataclasses

import pytest
import torch

from tadscale.engine.balance import MEASURE_EVERY_STEPS, SharedSplit, describe_split, share_factor, split_gradients
from tadscale.engine.steps import DistillConfig, Lesson, StudentConfig, step_function
from tadscale.models.detector import Detector
from tadscale.models.heads.objective import build_objective
from tadscale.models.student import Student
from tests.engine.conftest import BATCH, make_batch


@pytest.fixture
def taught(tiny_model):
    """A batch with the outputs of a motion teacher."""
    torch.manual_seed(3)
    batch = make_batch(0)
    teacher = Detector(tiny_model, in_channels=2, num_classes=2).eval()
    with torch.no_grad():
        return dataclasses.replace(batch, teacher=teacher(torch.rand(2, 2, 16, 16, 16) * 2 - 1, batch.mask))


def student_of(tiny_model) -> Student:
    torch.manual_seed(0)
    return Student(tiny_model, num_classes=2)


def conventional_of(tiny_model) -> Detector:
    torch.manual_seed(0)
    return Detector(tiny_model, in_channels=3, num_classes=2)


def gradients(tiny_model, batch, mode="decomposed", total_steps=0, motion_truth_weight=0.0, **distill):
    """What one step sends into each parameter, and the loss parts."""
    student = student_of(tiny_model) if mode == "decomposed" else conventional_of(tiny_model)
    objective = build_objective(tiny_model.head, 2)
    taught_by = DistillConfig(**({"balance": "fixed"} | distill))
    settings = StudentConfig(distill=taught_by, motion_truth_weight=motion_truth_weight)
    lesson = Lesson(objective=objective, student=settings, global_batch=BATCH, total_steps=total_steps)
    parts = step_function(mode, lesson)(student, batch)
    parts["loss"].backward()
    grads = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    return grads, {name: value.item() for name, value in parts.items()}


def test_gradients_at_the_split_are_those_of_each_loss_alone():
    torch.manual_seed(0)
    features = torch.randn(2, 3, 4, requires_grad=True)
    used = features * 1.0
    weight = torch.randn(2, 3, 4)
    truth, distillation = split_gradients(torch.nn.Identity(), used, (used * weight).sum(), used.square().sum())
    torch.testing.assert_close(truth, weight)
    torch.testing.assert_close(distillation, 2 * used.detach())
    described = describe_split(truth, distillation)
    assert float(described["split_truth"]) == pytest.approx(float(weight.norm()))
    cosine = torch.nn.functional.cosine_similarity(weight.flatten(), 2 * used.detach().flatten(), dim=0)
    assert float(described["split_cosine"]) == pytest.approx(float(cosine), rel=1e-5)


def test_a_split_joins_the_gradients_of_its_views():
    split, x = SharedSplit(0.5), torch.ones(2, requires_grad=True)
    truth, distillation = split(x)
    assert torch.equal(truth, x) and torch.equal(distillation, x)
    (truth * torch.tensor([3.0, 4.0]) + distillation * torch.tensor([0.0, 20.0])).sum().backward()
    assert x.grad.tolist() == pytest.approx([3.0, 4.0 + 0.5 * 5])
    assert {name: float(value) for name, value in split.measured.items()} == pytest.approx(
        {"split_truth": 5.0, "split_distill": 20.0, "split_cosine": 0.8}
    )


def test_a_frozen_backbone_is_not_measured():
    split = SharedSplit(0.5)
    split(torch.ones(2))
    assert split.measured == {}


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_distillation_sends_the_stated_share_into_the_backbone(tiny_model, taught, share):
    """Into the backbone: truth's gradient, plus the teacher's at `share` times its norm at the split. Elsewhere as ever."""
    balanced, parts = gradients(tiny_model, taught, balance="share", share=share)
    fixed, _ = gradients(tiny_model, taught)
    truth, _ = gradients(tiny_model, taught, feature_weight=0.0, prediction_weight=0.0)
    factor = share * parts["split_truth"] / parts["split_distill"]
    assert abs(factor - 1) > 0.1
    backbone = [name for name in fixed if name.startswith("backbone.")]
    for name in backbone:
        torch.testing.assert_close(
            balanced[name], truth[name] + factor * (fixed[name] - truth[name]), rtol=1e-3, atol=1e-6
        )
    for name in set(fixed) - set(backbone):
        torch.testing.assert_close(balanced[name], fixed[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("balance", ["share", "fixed"])
def test_a_backbone_may_hear_the_teacher_later_than_the_branches_do(tiny_model, taught, balance):
    """In the first half the backbone's gradient is ground truth's, all else learns as ever; then nothing is held back."""
    early = {"balance": balance, "backbone_delay": 0.5, "total_steps": 10}
    later = dataclasses.replace(taught, positions=taught.positions + BATCH * 5)
    held, parts = gradients(tiny_model, taught, **early)
    whole, _ = gradients(tiny_model, taught, balance=balance)
    truth, _ = gradients(tiny_model, taught, feature_weight=0.0, prediction_weight=0.0)
    for name in held:
        torch.testing.assert_close(held[name], truth[name] if name.startswith("backbone.") else whole[name])
    assert parts["split_distill"] > 0
    freed, _ = gradients(tiny_model, later, **early)
    assert all(torch.equal(freed[name], whole[name]) for name in whole)


@pytest.mark.parametrize("delay", [0.0, 0.5])
@pytest.mark.parametrize("balance", ["share", "fixed"])
def test_ground_truth_on_the_motion_branch_is_ground_truth(tiny_model, taught, balance, delay):
    """Its gradient grows with its weight, in the backbone as elsewhere, and no delay holds it back."""
    alone = {"balance": balance, "feature_weight": 0.0, "prediction_weight": 0.0}
    none, once, thrice = (
        gradients(tiny_model, taught, motion_truth_weight=weight, backbone_delay=delay, total_steps=10, **alone)[0]
        for weight in (0.0, 1.0, 3.0)
    )
    parts = {name.split(".")[0] for name in none if (once[name] - none[name]).abs().max() > 1e-4}
    assert parts == {"backbone", "motion_branch", "branch_head"}
    for name in none:
        torch.testing.assert_close(thrice[name] - none[name], 3 * (once[name] - none[name]), rtol=1e-3, atol=1e-5)


def test_a_delay_that_nobody_settled_is_no_delay_of_nothing(tiny_model, taught):
    with pytest.raises(ValueError, match="backbone_delay is open"):
        gradients(tiny_model, taught, backbone_delay=None, total_steps=10)


@pytest.mark.parametrize("balance", ["share", "fixed"])
@pytest.mark.parametrize("mode", ["decomposed", "conventional"])
def test_the_step_is_read_before_a_gpu_has_work(tiny_model, taught, mode, balance):
    """Reading it from a tensor on a GPU waits for all that is queued there."""
    seen = []

    class Positions:
        def __getitem__(self, index):
            seen.append("positions")
            return 0

    student = student_of(tiny_model) if mode == "decomposed" else conventional_of(tiny_model)
    student.register_forward_pre_hook(lambda *_: seen.append("forward"))
    settings = StudentConfig(distill=DistillConfig(balance=balance))
    lesson = Lesson(objective=build_objective(tiny_model.head, 2), student=settings, global_batch=BATCH)
    step_function(mode, lesson)(student, dataclasses.replace(taught, positions=Positions()))
    assert seen == ["positions", "forward"]


def test_a_conventional_student_is_not_distilled_until_then(tiny_model, taught):
    plain, _ = gradients(tiny_model, taught, mode="conventional", feature_weight=0.0, prediction_weight=0.0)
    held, _ = gradients(tiny_model, taught, mode="conventional", backbone_delay=0.5, total_steps=10)
    for name in plain:
        torch.testing.assert_close(held[name], plain[name])


def test_nothing_is_scaled_where_distillation_sends_nothing():
    assert float(share_factor(torch.ones(3), torch.zeros(3), 1.0)) == 1.0
    assert float(share_factor(torch.ones(3), torch.full((3,), 4.0), 2.0)) == pytest.approx(0.5)


def test_a_fixed_balance_is_measured_every_so_many_steps_and_not_changed_by_it(tiny_model, taught):
    measured, parts = gradients(tiny_model, taught)
    later = dataclasses.replace(taught, positions=taught.positions + BATCH * (MEASURE_EVERY_STEPS + 1))
    plain, other = gradients(tiny_model, later)
    assert {"split_truth", "split_distill", "split_cosine"} <= set(parts) and "split_truth" not in other
    assert all(torch.equal(measured[name], plain[name]) for name in plain)
