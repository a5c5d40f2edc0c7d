"""A registered teacher or start becomes a folder that every node can read."""

from pathlib import Path

import pytest

from tadscale.network import load_network, read_spec
from tadscale.runtime.jobs.named_models import with_named_models_at_hand
from tadscale.runtime.models.packaging import package_model
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.stage.job import TeacherConfig
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


def test_folders_are_left_where_they_are(job):
    named = job.model_copy(update={"teacher": TeacherConfig(url="elsewhere/teacher")})
    assert with_named_models_at_hand(named) == named


def test_a_name_that_is_not_registered_is_said(job):
    named = job.model_copy(update={"teacher": TeacherConfig(url="models:/nobody@champion")})
    with pytest.raises(ValueError, match="no model 'nobody' is registered"):
        with_named_models_at_hand(named)
