"""A gate that could compare nothing is found before anything is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tadscale.data.features import FeatureRows
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.models.backbones.features import FeaturesConfig
from tadscale.network import NetworkSpec, save_network
from tadscale.runtime.jobs.preflight.checks import CHECKS, findings
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import network_of
from tadscale.runtime.tracking.track import resolve_tracking_uri, track_job
from tadscale.serving.predictor import PACKAGED_AT
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401

ROWS = FeatureRows(channels=6, stride=4, offset=8, video_fps=20)


def faults(job: JobConfig, name: str = "gate") -> list[str]:
    [check] = [check for check in CHECKS if check.name == name]
    return findings(check, Facts(job))


@pytest.fixture
def own(job: Callable[..., JobConfig], stored: Callable[..., str]) -> Callable[..., JobConfig]:
    """A job with a gate on stored videos of the class `run`, with changes."""
    url = stored()
    return lambda **changes: job(**{"data__sprites": None, "data__url": url, "gate": {}} | changes)


@pytest.fixture
def reigns(storage: Path, tmp_path: Path) -> Callable[..., None]:  # noqa: F811
    """Makes a detector the champion of the name that a job registers under: the job's own, with changes."""

    def register(job: JobConfig, **changes: Any) -> None:
        teacher = job.kind == "teacher"
        own = network_of(job, "teacher" if teacher else job.student.mode, ("run",))
        spec: NetworkSpec = own.model_copy(update={"motion_fingerprint": motion_fingerprint(job.motion)} | changes)
        package = tmp_path / "package"
        save_network(str(package / PACKAGED_AT), spec, spec.build().state_dict())
        name = str(job.tracking.registered_teacher if teacher else job.tracking.registered_model)
        with track_job(job.tracking, job="before", storage=str(storage), settings={}) as run:
            Registry(run.tracking_uri).register(run, name, package, metrics={}, tags={})

    return register


def test_without_a_champion_there_is_nothing_to_say_and_no_database_is_made(own, tmp_path):
    assert faults(own()) == []
    assert not (tmp_path / "runs").exists()


def test_a_champion_that_fits_is_no_fault(own, reigns):
    reigns(own())
    assert faults(own()) == []


def test_a_champion_of_other_classes(own, reigns):
    reigns(own(), classes=("jump", "run"))
    [says] = faults(own())
    assert "tadscale-detector version 1, knows 2 classes" in says and "not in both: jump" in says
    uri = resolve_tracking_uri(own().tracking, own().storage)
    assert faults(own(tracking__tracking_uri=f"{uri}?timeout=60")) == [says]
    assert faults(own(gate=None)) == []
    assert faults(own(tracking__registered_model="another")) == []


def test_a_champion_that_was_deleted(own, reigns):
    reigns(own(), classes=("run",))
    reigns(own(), classes=("jump", "run"))  # another network, the challenger
    uri = resolve_tracking_uri(own().tracking, own().storage)
    Registry(uri)._client.delete_model_version("tadscale-detector", "1")
    [says] = faults(own())
    assert "version 1, which reigned, is gone" in says and "registry promote tadscale-detector" in says
    assert faults(own(gate=None)) == []


def test_a_champion_of_another_modality(own, reigns):
    window = own().data.window.model_copy(update={"features": ROWS})
    model = own().model.model_copy(update={"backbone": FeaturesConfig()})
    reigns(own(), window=window, model=model)
    [says] = faults(own())
    assert "reads features (channels=6 stride=4 offset=8.0 video_fps=20.0) and this job video" in says


def test_a_teacher_of_another_motion(own, reigns):
    changes = {"kind": "teacher", "tracking__registered_teacher": "flow"}
    reigns(own(**changes))
    assert faults(own(**changes)) == []
    [says] = faults(own(**changes, motion={"name": "dis"}))
    assert "the champion, flow version 1, reads the motion temporal_gradient" in says and "this job makes dis" in says


def test_one_test_video_is_too_few_once_there_is_a_champion(own, reigns, job):
    few = {"data__sprites": {"train": 8, "validation": 0, "test": 1, "duration_s": 8, "fps": 5, "size": 32}}
    assert faults(job(**few, gate={})) == []  # the first version is compared with nobody
    classes = Facts(job(**few)).data.classes
    reigns(own(), classes=classes)
    [says] = faults(job(**few, gate={}))
    assert "has 1 video" in says and "needs 2 or more" in says


def test_a_pace_is_not_asked_of_what_reads_features(own):
    budget = {"budgets": {"seconds_per_video_second": 0.5}}
    given = own(gate=budget)
    window = given.data.window.model_copy(update={"features": ROWS})
    reading = given.model_copy(update={"data": given.data.model_copy(update={"window": window})})
    [says] = faults(reading, "gate's budgets")
    assert "this job reads features: leave that budget out" in says
    assert faults(own(gate=budget), "gate's budgets") == []
