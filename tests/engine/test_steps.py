"""Training modes: which gradient goes where."""

import dataclasses

import pytest
import torch

from tadscale.engine.steps import DistillConfig, Lesson, StudentConfig, mean_over_slots, step_function
from tadscale.models.detector import Detector
from tadscale.models.heads.objective import build_objective
from tadscale.models.student import Student
from tests.engine.conftest import BATCH, make_batch

ON = DistillConfig(feature_weight=1.0, prediction_weight=1.0, balance="fixed")
OFF = DistillConfig(feature_weight=0.0, prediction_weight=0.0, balance="fixed")


@pytest.fixture
def taught(tiny_model):
    """A batch with the outputs of a motion teacher."""
    torch.manual_seed(3)
    batch = make_batch(0)
    teacher = Detector(tiny_model, in_channels=2, num_classes=2).eval()
    motion = torch.rand(2, 2, 16, 16, 16) * 2 - 1
    with torch.no_grad():
        output = teacher(motion, batch.mask)
    return dataclasses.replace(batch, motion_fields=motion, teacher=output)


def run(mode, model, batch, distill, tiny_model, labelled_share=1.0):
    lesson = Lesson(
        objective=build_objective(tiny_model.head, 2),
        student=StudentConfig(distill=distill),
        global_batch=BATCH,
        labelled_share=labelled_share,
    )
    return step_function(mode, lesson)(model, batch)


def _grads(model, parts):
    model.zero_grad()
    parts["loss"].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_loss_is_the_weighted_sum_of_its_parts(tiny_model, taught):
    distill = DistillConfig(feature_weight=3.0, prediction_weight=0.5, balance="fixed")
    parts = run("decomposed", Student(tiny_model, num_classes=2), taught, distill, tiny_model)
    total = parts["joint"] + parts["appearance"] + 3.0 * parts["feature"] + 0.5 * parts["prediction"]
    torch.testing.assert_close(parts["loss"], total)


def test_no_distillation_reaches_the_appearance_branch(tiny_model, taught):
    torch.manual_seed(0)
    student = Student(tiny_model, num_classes=2)
    with_teacher = _grads(student, run("decomposed", student, taught, ON, tiny_model))
    without = _grads(student, run("decomposed", student, taught, OFF, tiny_model))
    for name in with_teacher:
        if name.startswith("appearance"):
            torch.testing.assert_close(with_teacher[name], without[name])
    assert any(
        (with_teacher[name] - without[name]).abs().max() > 1e-4
        for name in with_teacher
        if name.startswith("motion_branch.")
    )


def test_no_ground_truth_reaches_the_motion_branch_detections(tiny_model, taught):
    """Relabelling the window changes nothing in the two terms that the motion branch's outputs enter."""
    student = Student(tiny_model, num_classes=2)
    relabelled = dataclasses.replace(
        taught, targets=dataclasses.replace(taught.targets, labels=1 - taught.targets.labels)
    )
    before, after = (run("decomposed", student, batch, ON, tiny_model) for batch in (taught, relabelled))
    assert torch.equal(before["feature"], after["feature"])
    assert torch.equal(before["prediction"], after["prediction"])
    assert not torch.equal(before["appearance"], after["appearance"])


def test_conventional_puts_truth_and_teacher_on_one_detector(tiny_model, taught):
    detector = Detector(tiny_model, in_channels=3, num_classes=2)
    parts = run("conventional", detector, taught, ON, tiny_model)
    assert {"loss", "truth", "feature", "prediction"} < set(parts)
    torch.testing.assert_close(parts["truth"], run("baseline", detector, taught, ON, tiny_model)["loss"])


def test_teacher_trains_on_motion(tiny_model, taught):
    detector = Detector(tiny_model, in_channels=2, num_classes=2)
    grads = _grads(detector, run("teacher", detector, taught, ON, tiny_model))
    assert all(grad.abs().sum() > 0 for name, grad in grads.items() if name.startswith("backbone"))


def test_a_window_without_ground_truth_is_no_background(tiny_model, taught):
    """Its annotations weigh nothing, whatever they say, and the teacher's word on it still counts."""
    torch.manual_seed(0)
    student = Student(tiny_model, num_classes=2)
    half = dataclasses.replace(taught, labelled=torch.tensor([True, False]))
    labels = half.targets.labels.clone()
    labels[1] = -1
    emptied = dataclasses.replace(half, targets=dataclasses.replace(half.targets, labels=labels))
    parts, other = (run("decomposed", student, batch, ON, tiny_model) for batch in (half, emptied))
    whole = run("decomposed", student, taught, ON, tiny_model)
    assert torch.equal(parts["joint"], other["joint"]) and not torch.equal(parts["joint"], whole["joint"])
    assert torch.equal(parts["feature"], whole["feature"]) and torch.equal(parts["prediction"], whole["prediction"])


def test_windows_without_ground_truth_take_no_weight_from_those_with_it(tiny_model, taught):
    torch.manual_seed(0)
    student = Student(tiny_model, num_classes=2)
    first, second = (
        run("decomposed", student, dataclasses.replace(taught, labelled=torch.tensor(known)), ON, tiny_model, 0.5)
        for known in ([True, False], [False, True])
    )
    whole = run("decomposed", student, taught, ON, tiny_model)
    for name in ("joint", "appearance"):  # the mean of the two windows' losses, where each was the only one to count
        torch.testing.assert_close((first[name] + second[name]) / 2, whole[name])


@pytest.mark.parametrize("wrong", [torch.tensor(1.0), torch.ones(2, 1)])
def test_a_loss_that_is_not_one_value_a_window_is_refused(wrong):
    """A scalar would be spread over all windows, and `[B, 1]` over `[B, B]`."""
    with pytest.raises(TypeError, match=r"a loss has the shape \[.*\] where each of 2 windows"):
        mean_over_slots(wrong, torch.tensor([True, False]))
