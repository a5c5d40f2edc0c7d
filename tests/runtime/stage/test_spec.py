"""What decides a stage's result, and what a job trains."""

import pytest

from tadscale.engine.optim import OptimConfig
from tadscale.engine.steps import DELAY, DistillConfig, StudentConfig
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.runtime.stage.job import TeacherConfig
from tadscale.runtime.stage.spec import stage_of
from tests.runtime.conftest import ONE_WORKER, changed, save_untrained

HEAD = ActionFormerConfig(dim=8, levels=2, heads=2, stem_blocks=1)


@pytest.fixture
def stages(make_stage, tmp_path):
    """The three stages of a job, by mode; the teacher is untrained."""
    teacher = make_stage(tmp_path, "teacher")
    url = save_untrained(teacher, tmp_path / "teacher" / "weights", seed=1)
    return {mode: stage_of(teacher.job, mode, url) for mode in ("teacher", "baseline", "decomposed")}


@pytest.mark.parametrize(
    ("changes", "retrained"),
    [
        ({"student": StudentConfig(distill=DistillConfig(feature_weight=1.5))}, {"decomposed"}),
        ({"seed": 1}, {"teacher", "baseline", "decomposed"}),
        ({"cluster": ONE_WORKER.model_copy(update={"cpus_per_fetch": 0.25})}, set()),
        ({"checkpoint_every_steps": 7}, set()),
        ({"baseline": False}, set()),
        ({"teacher": TeacherConfig(lr=0.5)}, {"teacher"}),  # the students by its weights, once it is trained
        ({"teacher": TeacherConfig(warmup_epochs=0)}, {"teacher"}),
        ({"model": ModelConfig(backbone=Small3dConfig(width=4), dim=8, head=HEAD, fusion="sum")}, {"decomposed"}),
    ],
)
def test_only_what_a_setting_decides_is_another_stage(stages, changes, retrained):
    assert {mode for mode, stage in stages.items() if changed(stage, **changes).identity != stage.identity} == retrained


def test_another_motion_leaves_the_baseline_alone(stages):
    motion = stages["teacher"].job.motion.model_copy(update={"name": "temporal_gradient_slow"})
    differing = {mode for mode, stage in stages.items() if changed(stage, motion=motion).identity != stage.identity}
    assert differing == {"teacher", "decomposed"}


def test_another_teacher_is_another_student(stages, make_stage, tmp_path):
    student = stages["decomposed"]
    other = save_untrained(make_stage(tmp_path, "teacher"), tmp_path / "other", seed=2)
    assert stage_of(student.job, "decomposed", other).identity != student.identity


def test_what_starts_from_what(stages, tmp_path):
    job, folder = stages["baseline"].job, stages["decomposed"].teacher_url
    assert stage_of(job, "baseline", start_url=folder).start_url == folder
    assert stage_of(job, "teacher", start_url=folder).start_url is None  # an RGB network's backbone reads no motion
    file = tmp_path / "published.safetensors"
    file.write_bytes(b"weights")
    assert stage_of(job, "teacher", start_url=str(file)).start_url == str(file)
    assert stage_of(job, "pretrain", start_url=str(file)).start_url is None


def test_a_backbone_that_starts_from_nothing_learns_at_the_rate_of_the_rest(make_stage, tmp_path):
    teacher = make_stage(tmp_path, "teacher", optim=OptimConfig(backbone_lr_factor=0.3))
    assert teacher.optim.backbone_lr_factor == 1.0
    started = teacher.model_copy(update={"mode": "baseline", "start_url": "start"})
    assert started.optim.backbone_lr_factor == 0.3


@pytest.mark.parametrize(
    ("start", "delay"),
    [(None, 0.0), ("imagenet.safetensors", 0.0), ("kinetics.pth", 0.0), ("runs/start/weights", DELAY)],
)
def test_the_teacher_waits_for_a_start_that_knows_something_of_motion(make_stage, tmp_path, start, delay):
    stage = make_stage(tmp_path, "decomposed").model_copy(update={"start_url": start})
    assert stage.student.distill.backbone_delay == stage.identity["student"]["distill"]["backbone_delay"] == delay
    said = stage.job.model_copy(update={"student": StudentConfig(distill=DistillConfig(backbone_delay=0.1))})
    assert stage.model_copy(update={"job": said}).student.distill.backbone_delay == 0.1
