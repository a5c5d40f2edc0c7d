"""The decomposed student: what reaches what, and what inference leaves out."""

import pytest
import torch

from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.student import BRANCH_HEAD, Student, inference_state

TINY = ModelConfig(backbone=Small3dConfig(width=4), dim=8, head=ActionFormerConfig(dim=8, levels=2, heads=2))


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return Student(TINY, num_classes=2)


def _clip():
    torch.manual_seed(1)
    return torch.randn(2, 3, 16, 16, 16), torch.ones(2, 16, dtype=torch.bool)


def _with_gradient(module) -> set[str]:
    return {
        name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }


def test_branches_share_one_detector(student):
    video, mask = _clip()
    output = student(video, mask)
    output.appearance_predictions["logits"].sum().backward()
    assert _with_gradient(student) == {"backbone", "appearance_branch", "branch_head"}
    student.zero_grad()
    student(video, mask).motion_predictions["logits"].sum().backward()
    assert _with_gradient(student) == {"backbone", "motion_branch", "branch_head"}


def test_joint_detection_uses_both_branches_and_not_the_branch_detector(student):
    video, mask = _clip()
    student.detect(video, mask)["logits"].sum().backward()
    branches = {f"{name}_{part}" for name in ("motion", "appearance") for part in ("branch", "fusion")}
    assert _with_gradient(student) == branches | {"backbone", "head"}


def test_exported_student_has_no_branch_detector_and_detects_the_same(student):
    student.eval()
    exported = Student(TINY, num_classes=2, with_branch_head=False).eval()
    exported.load_state_dict(inference_state(student.state_dict()))
    assert not [name for name in exported.state_dict() if name.startswith(BRANCH_HEAD)]
    with torch.no_grad():
        expected, got = student.detect(*_clip()), exported.detect(*_clip())
    assert torch.equal(got["logits"], expected["logits"])
    assert torch.equal(got["segments"], expected["segments"])


def test_training_and_inference_give_the_same_joint_predictions(student):
    with torch.no_grad():
        assert torch.equal(student(*_clip()).joint_predictions["logits"], student.detect(*_clip())["logits"])


def test_detector_ignores_frames_beyond_the_mask():
    torch.manual_seed(0)
    detector = Detector(TINY, in_channels=2, num_classes=2).eval()
    mask = torch.arange(16)[None] < 8
    with torch.no_grad():
        out = detector(torch.randn(1, 2, 16, 16, 16), mask)
    assert out.feature.shape == (1, 8, 8)
    assert out.feature[:, :, 4:].abs().max() == 0


def test_pictures_are_read_as_what_the_backbone_makes_of_them(student):
    frames = torch.randint(0, 256, (2, 16, 16, 16, 3), dtype=torch.uint8)
    mask = torch.ones(2, 16, dtype=torch.bool)
    with torch.no_grad():
        expected = student.detect(student.backbone.normalise(frames), mask)
        assert torch.equal(student.detect(frames, mask)["logits"], expected["logits"])
