"""A registered teacher or start becomes a folder that every node can read."""

from pathlib import Path

import pytest

from tadscale.engine.start import start_digest
from tadscale.engine.steps import AppearanceTeacherConfig, StudentConfig
from tadscale.network import load_network, read_spec, save_network
from tadscale.runtime.jobs.named_models import (
    named_appearance_teacher,
    opened_models,
    with_named_models_at_hand,
)
from tadscale.runtime.models.packaging import package_model
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.stage.job import TeacherConfig
from tadscale.runtime.stage.modes import network_of
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401


@pytest.fixture
def job(make_stage, storage: Path, tmp_path: Path):  # noqa: F811
    """A job in whose registry a teacher is champion of the name `movement`."""
    teacher = make_stage(storage / "x", "teacher")
    spec = teacher.network(("a", "b"))
    package_model(tmp_path / "package", spec, spec.build().state_dict())
    with track_job(TrackingConfig(), job="t", storage=str(storage), settings={}) as run:
        Registry(run.tracking_uri).register(run, "movement", tmp_path / "package", metrics={}, tags={})
    return teacher.job


def test_a_registered_teacher_is_laid_into_the_run_s_storage(job):
    named = job.model_copy(update={"teacher": TeacherConfig(url="models:/movement@champion")})
    url = with_named_models_at_hand(named).teacher.url
    assert Path(url).is_relative_to(job.run_url)
    network, spec = load_network(url)
    assert spec.reads_motion and spec.motion_fingerprint and not network.training
    again = read_spec(with_named_models_at_hand(named).teacher.url)
    assert again.weights_sha256 == spec.weights_sha256


def test_a_registered_appearance_teacher_is_laid_beside_it(job):
    wanted = StudentConfig(appearance_teacher=AppearanceTeacherConfig(url="models:/movement@champion"))
    named = with_named_models_at_hand(job.model_copy(update={"student": wanted}))
    url = named.student.appearance_teacher.url
    assert Path(url) == Path(job.run_url, "named-appearance-teacher")
    assert read_spec(url) == named_appearance_teacher(job.model_copy(update={"student": wanted}))
    assert named_appearance_teacher(named) == read_spec(url)
    assert named_appearance_teacher(job) is None


def test_registered_models_are_opened_on_this_machine_for_a_command(job):
    backbone = job.model.backbone.model_copy(update={"weights": "models:/movement@champion"})
    model = job.model.model_copy(update={"backbone": backbone})
    student = StudentConfig(appearance_teacher=AppearanceTeacherConfig(url="models:/movement@champion"))
    changes = {"teacher": TeacherConfig(url="models:/movement/1"), "model": model, "student": student}
    with opened_models(job.model_copy(update=changes)) as opened:
        for url in (opened.teacher.url, opened.model.backbone.weights, opened.student.appearance_teacher.url):
            assert load_network(url)[1].reads_motion
    with opened_models(job) as as_it_is:
        assert as_it_is == job


def test_folders_are_left_where_they_are(job):
    named = job.model_copy(update={"teacher": TeacherConfig(url="elsewhere/teacher")})
    assert with_named_models_at_hand(named) == named


def test_a_local_start_is_laid_where_every_node_sees_it(job, tmp_path):
    spec = network_of(job, "pretrain", ("a", "b"))
    save_network(str(tmp_path / "start"), spec, spec.build(for_training=True).state_dict())
    (tmp_path / "published.safetensors").write_bytes(b"as it is")
    for start in ("start", "published.safetensors"):
        backbone = job.model.backbone.model_copy(update={"weights": str(tmp_path / start)})
        model = job.model.model_copy(update={"backbone": backbone})
        far = job.model_copy(update={"storage": f"file://{tmp_path}/runs", "model": model})
        laid = with_named_models_at_hand(far).model.backbone.weights
        assert laid.startswith(f"file://{tmp_path}/runs")
        assert start_digest(laid) == start_digest(str(tmp_path / start))
        near = job.model_copy(update={"model": model})
        assert with_named_models_at_hand(near) == near


def test_a_name_that_is_not_registered_is_said(job):
    named = job.model_copy(update={"teacher": TeacherConfig(url="models:/nobody@champion")})
    with pytest.raises(ValueError, match="no model 'nobody' is registered"):
        with_named_models_at_hand(named)
