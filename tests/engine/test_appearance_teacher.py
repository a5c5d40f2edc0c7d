"""The appearance teacher: what it teaches, where its gradient goes, and that without it nothing is another."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from tadscale.engine.batch import WindowBatch
from tadscale.engine.steps import AppearanceTeacherConfig, DistillConfig, Lesson, StudentConfig, step_function
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector
from tadscale.models.heads.objective import build_objective
from tadscale.models.student import Student
from tests.engine.conftest import BATCH, make_batch

ALONE = AppearanceTeacherConfig(feature_weight=3.0, prediction_weight=0.5)
PARTS = {"appearance_teacher_feature", "appearance_teacher_prediction"}


@pytest.fixture
def taught(tiny_model) -> WindowBatch:
    """A batch with the outputs of a motion teacher and of an appearance teacher."""
    torch.manual_seed(3)
    batch = make_batch(0)
    motion, rgb = (Detector(tiny_model, in_channels=channels, num_classes=2).eval() for channels in (2, 3))
    with torch.no_grad():
        said = motion(torch.rand(2, 2, 16, 16, 16) * 2 - 1, batch.mask)
        return dataclasses.replace(batch, teacher=said, appearance_teacher=rgb(batch.frames, batch.mask))


def run(
    model: ModelConfig, batch: WindowBatch, teacher: AppearanceTeacherConfig | None, **distill
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The gradients of one step of a student that is always the same, and the parts of its loss."""
    torch.manual_seed(0)
    student = Student(model, num_classes=2)
    settings = StudentConfig(distill=DistillConfig(**({"balance": "fixed"} | distill)), appearance_teacher=teacher)
    lesson = Lesson(objective=build_objective(model.head, 2), student=settings, global_batch=BATCH)
    parts = step_function("decomposed", lesson)(student, batch)
    parts["loss"].backward()
    grads = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    return grads, parts


def moved(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    """The parts of the network in which two gradients differ by more than rounding."""
    assert one.keys() == other.keys()
    far = (name for name in one if (one[name] - other[name]).abs().max() > 1e-6 * (1 + other[name].abs().max()))
    return {name.split(".")[0] for name in far}


@pytest.mark.parametrize("balance", ["fixed", "share"])
@pytest.mark.parametrize("shared", [True, False])
def test_its_gradient_goes_into_appearance_branch_detector_and_backbone_only(tiny_model, taught, balance, shared):
    model = tiny_model.model_copy(update={"shared_branch_head": shared})
    without, _ = run(model, taught, None, balance=balance)
    feature = AppearanceTeacherConfig(feature_weight=1.0, prediction_weight=0.0)
    assert moved(run(model, taught, feature, balance=balance)[0], without) == {"appearance_branch", "backbone"}
    both = AppearanceTeacherConfig(feature_weight=1.0, prediction_weight=1.0)
    expected = {"appearance_branch", "backbone", "branch_head"}
    assert moved(run(model, taught, both, balance=balance)[0], without) == expected


@pytest.mark.parametrize("balance", ["fixed", "share"])
def test_its_loss_is_the_distance_from_its_feature_and_its_detections(tiny_model, taught, balance):
    """Against the definition in docs/method.md, written out."""
    _, parts = run(tiny_model, taught, ALONE, balance=balance)
    torch.manual_seed(0)
    student = Student(tiny_model, num_classes=2)
    said, steps = taught.appearance_teacher, student.backbone.steps(taught.mask)
    feature = student.appearance_branch(student.backbone(student.backbone.normalise(taught.frames)), steps)
    far = (F.layer_norm(feature.mT, (8,)) - F.layer_norm(said.feature.mT, (8,))).square().mean(dim=(1, 2))
    torch.testing.assert_close(parts["appearance_teacher_feature"], far.mean())
    imitated = build_objective(tiny_model.head, 2).imitate(student.branch_head(feature, steps), said.predictions)
    torch.testing.assert_close(parts["appearance_teacher_prediction"], imitated.mean())
    total = parts["joint"] + parts["appearance"] + 4.0 * parts["feature"] + parts["prediction"]
    total = total + 3.0 * far.mean() + 0.5 * imitated.mean()
    torch.testing.assert_close(parts["loss"], total)


def test_its_gradient_is_counted_as_distillation(tiny_model, taught):
    """Both teachers together send the stated share into the backbone."""
    taught_alike = AppearanceTeacherConfig(feature_weight=40.0)
    balanced, parts = run(tiny_model, taught, taught_alike, balance="share", share=0.5)
    fixed, _ = run(tiny_model, taught, taught_alike)
    truth, motion = (
        run(tiny_model, taught, None, feature_weight=weight, prediction_weight=weight) for weight in (0.0, 4.0)
    )
    assert parts["split_distill"] > 1.5 * motion[1]["split_distill"]
    factor = 0.5 * parts["split_truth"] / parts["split_distill"]
    for name in (name for name in fixed if name.startswith("backbone.")):
        expected = truth[0][name] + factor * (fixed[name] - truth[0][name])
        torch.testing.assert_close(balanced[name], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("balance", ["fixed", "share"])
def test_without_it_no_digit_is_another(tiny_model, taught, balance):
    """What a second teacher says of a batch is not looked at unless it is asked for."""
    bare, parts = run(tiny_model, dataclasses.replace(taught, appearance_teacher=None), None, balance=balance)
    there, others = run(tiny_model, taught, None, balance=balance)
    assert not PARTS & parts.keys()
    assert parts.keys() == others.keys()
    assert all(torch.equal(parts[name], others[name]) for name in parts)
    assert all(torch.equal(bare[name], there[name]) for name in bare)
    nothing = AppearanceTeacherConfig(feature_weight=0.0, prediction_weight=0.0)
    assert torch.equal(run(tiny_model, taught, nothing, balance=balance)[1]["loss"], parts["loss"])


def test_a_window_that_cannot_be_read_weighs_nothing(tiny_model, taught):
    half = dataclasses.replace(taught, valid=torch.tensor([True, False]))
    other = taught.appearance_teacher._replace(feature=taught.appearance_teacher.feature.clone())
    other.feature[1] += 1.0
    _, parts = run(tiny_model, half, ALONE)
    _, others = run(tiny_model, dataclasses.replace(half, appearance_teacher=other), ALONE)
    assert torch.equal(parts["appearance_teacher_feature"], others["appearance_teacher_feature"])
