"""The appearance teacher in a training worker: what it says, and which one is refused."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tadscale.data.manifest import read_manifest
from tadscale.engine.batch import WindowBatch
from tadscale.engine.steps import AppearanceTeacherConfig, StudentConfig
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.heads.objective import Targets
from tadscale.network import load_network
from tadscale.runtime.stage.spec import Stage, stage_of
from tadscale.runtime.training.appearance_teacher import AppearanceTeacher, check_appearance_teacher
from tests.runtime.conftest import WINDOW, changed, save_untrained

WANTED = StudentConfig(appearance_teacher=AppearanceTeacherConfig())


@pytest.fixture
def student(make_stage, tmp_path) -> Stage:
    """A student whose appearance teacher is an untrained baseline."""
    baseline = make_stage(tmp_path, "baseline", student=WANTED)
    url = save_untrained(baseline, tmp_path / "baseline" / "weights", seed=1)
    return stage_of(baseline.job, "decomposed", appearance_url=url)


def batch_of(windows: int) -> WindowBatch:
    """Windows of noise, the last half empty."""
    shape = (windows, WINDOW.frames, WINDOW.height, WINDOW.width, 3)
    mask = torch.ones(windows, WINDOW.frames, dtype=torch.bool)
    mask[-1, WINDOW.frames // 2 :] = False
    return WindowBatch(
        positions=torch.arange(windows),
        valid=torch.ones(windows, dtype=torch.bool),
        labelled=torch.ones(windows, dtype=torch.bool),
        mask=mask,
        targets=Targets(segments_frames=torch.zeros(windows, 1, 2), labels=torch.full((windows, 1), -1)),
        frames=torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8),
    )


def test_it_says_what_the_trained_network_says_and_nothing_else_of_the_batch_changes(student):
    batch = batch_of(2)
    taught = AppearanceTeacher(student.appearance_url, "cpu")(batch)
    network, _ = load_network(student.appearance_url)
    expected = network(batch.frames, batch.mask)
    assert torch.equal(taught.appearance_teacher.feature, expected.feature)
    assert not taught.appearance_teacher.feature.requires_grad
    assert all(
        torch.equal(value, expected.predictions[name]) for name, value in taught.appearance_teacher.predictions.items()
    )
    assert dataclasses.replace(taught, appearance_teacher=None) == batch


def test_the_run_s_own_baseline_fits(student):
    check_appearance_teacher(student, read_manifest(student.job.data.url))


def test_a_larger_backbone_may_teach_and_another_window_may_not(student, make_stage, tmp_path):
    manifest = read_manifest(student.job.data.url)

    def taught_by(**changes) -> Stage:
        teacher = make_stage(tmp_path, "baseline", **changes)
        url = save_untrained(teacher, tmp_path / "other", seed=2)
        named = StudentConfig(appearance_teacher=AppearanceTeacherConfig(url=url))
        return stage_of(student.job.model_copy(update={"student": named}), "decomposed")

    larger = student.job.model.model_copy(update={"backbone": Small3dConfig(width=12)})
    check_appearance_teacher(taught_by(model=larger), manifest)
    wider = student.job.model.model_copy(update={"dim": 12})
    with pytest.raises(ValueError, match=r"another model\.dim than this stage \(12 and 8\)"):
        check_appearance_teacher(taught_by(model=wider), manifest)
    longer = {"window": WINDOW.model_copy(update={"fps": 2.5})}
    with pytest.raises(ValueError, match=r"another window\.fps"):
        check_appearance_teacher(taught_by(data=longer), manifest)


@pytest.mark.parametrize("mode", ["teacher", "decomposed"])
def test_what_reads_motion_or_has_two_features_does_not_teach_appearance(student, make_stage, tmp_path, mode):
    url = save_untrained(make_stage(tmp_path, mode), tmp_path / "other", seed=2)
    named = StudentConfig(appearance_teacher=AppearanceTeacherConfig(url=url))
    stage = stage_of(student.job.model_copy(update={"student": named}), "decomposed")
    with pytest.raises(ValueError, match=f"was trained as {mode}"):
        check_appearance_teacher(stage, read_manifest(student.job.data.url))


def test_another_appearance_teacher_is_another_student_wherever_it_lies(student, make_stage, tmp_path):
    job = student.job
    again = save_untrained(make_stage(tmp_path, "baseline"), tmp_path / "moved", seed=1)
    other = save_untrained(make_stage(tmp_path, "baseline"), tmp_path / "other", seed=2)
    assert stage_of(job, "decomposed", appearance_url=again).identity == student.identity
    assert stage_of(job, "decomposed", appearance_url=other).identity != student.identity
    weights = WANTED.model_copy(update={"appearance_teacher": AppearanceTeacherConfig(feature_weight=1.0)})
    lighter = job.model_copy(update={"student": weights})
    assert stage_of(lighter, "decomposed", appearance_url=again).identity != student.identity


def test_a_student_without_one_is_the_stage_that_it_was(student, make_stage, tmp_path):
    """Its identity names nothing new: runs that were begun before there were appearance teachers go on."""
    plain = make_stage(tmp_path, "decomposed")
    assert stage_of(plain.job, "decomposed", appearance_url=student.appearance_url) == plain
    assert "appearance teacher" not in plain.identity and "appearance_teacher" not in plain.identity["student"]
    for mode in ("teacher", "baseline"):
        of_mode = stage_of(student.job, mode, appearance_url=student.appearance_url)
        assert of_mode.appearance_url is None
        assert of_mode.identity == changed(of_mode, student=StudentConfig()).identity


def test_a_named_one_goes_before_the_baseline(student, make_stage, tmp_path):
    other = save_untrained(make_stage(tmp_path, "baseline"), tmp_path / "other", seed=2)
    named = StudentConfig(appearance_teacher=AppearanceTeacherConfig(url=other))
    job = student.job.model_copy(update={"student": named})
    assert Path(stage_of(job, "decomposed", appearance_url=student.appearance_url).appearance_url) == Path(other)
