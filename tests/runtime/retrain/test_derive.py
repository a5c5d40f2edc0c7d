"""What a run takes over from the champion: its backbone, its teacher, and when not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tadscale.data.manifest import read_manifest
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.storage import join
from tadscale.network import save_network
from tadscale.retrain.appearance import VideoLook
from tadscale.retrain.profile import profile_of
from tadscale.retrain.record import Derivation
from tadscale.runtime.models.data_profile import PROFILE_NAME
from tadscale.runtime.retrain import derive
from tadscale.runtime.retrain.derive import Derived, derived_job
from tadscale.runtime.retrain.incumbent import Incumbent, teacher_of
from tadscale.runtime.retrain.run_name import run_name
from tadscale.runtime.retrain.spec import load_retrain
from tadscale.runtime.stage.modes import network_of
from tests.runtime.retrain.conftest import draw

CHAMPION: Any = SimpleNamespace(name="tiny", version=3, tags={})


def look(speed: float) -> VideoLook:
    return VideoLook(luma=1, contrast=1, cb=0, cr=0, speed=speed)


class Case:
    """A champion of a run in a folder, with its own teacher and profile, and twelve videos of which it has seen none."""

    def __init__(self, retrain_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        draw(folder / "videos", train=12)
        self.config, self.job = load_retrain(retrain_file)
        self.training = read_manifest(self.job.data.url).subset("train")
        self.run, self.speed = folder / "old-run", 1.0
        self.save("teacher", self.run / "teacher/weights")
        self.save("decomposed", folder / "package")
        others = [row._replace(video_sha256=f"{place:064x}") for place, row in enumerate(self.training.rows)]
        seen = self.training.__class__(url="x", classes=self.training.classes, rows=tuple(others))
        speeds = iter(np.linspace(0.9, 1.1, 12))
        self.profile = profile_of(seen, [], lambda row: look(float(next(speeds))), [])
        (self.run / PROFILE_NAME).write_text(self.profile.model_dump_json())
        self.package = folder / "package"
        monkeypatch.setattr(derive, "teacher_of", lambda registry, version: f"{self.run}/teacher/weights")

    def save(self, mode: Any, folder: Path) -> None:
        spec = network_of(self.job, mode, self.training.classes)
        spec = spec.model_copy(update={"motion_fingerprint": motion_fingerprint(self.job.motion)})
        save_network(str(folder), spec, spec.build().state_dict())

    def derivation(self, **changes: Any) -> Derivation:
        @contextmanager
        def fetch(name: str, version: int) -> Iterator[Path]:
            yield self.package

        registry: Any = SimpleNamespace(fetch=fetch)
        derived = Derived(
            config=self.config.model_copy(update=changes),
            job=self.job,
            registry=registry,
            training=self.training,
            look=lambda row: look(self.speed + 0.1 * (row.video_offset % 7) / 7),
        )
        incumbent = Incumbent(champion=CHAMPION, profile=self.profile, challenger=None, latest=None)
        return derived.derivation("again-1", incumbent)


@pytest.fixture
def case(retrain_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(retrain_file, tmp_path, monkeypatch)


def test_backbone_and_teacher_are_the_champion_s_where_they_fit(case):
    made = case.derivation()
    assert (made.champion, made.start) == (3, "models:/tiny/3")
    assert made.teacher == f"{case.run}/teacher/weights" and made.teacher_says == "the champion's"
    job = derived_job(case.job, made)
    assert (job.name, job.model.backbone.weights, job.teacher.url) == ("again-1", made.start, made.teacher)
    assert job.model.model_copy(update={"backbone": case.job.model.backbone}) == case.job.model


def test_a_teacher_of_other_motion_is_trained_anew(case):
    case.speed = 3.0
    made = case.derivation()
    assert made.teacher is None and made.teacher_says.startswith("trained anew: speed moved by 1.00")
    never = case.config.teacher.model_copy(update={"refresh": "never"})
    assert case.derivation(teacher=never).teacher is not None


def test_what_is_compared_is_what_the_teacher_has_seen_and_not_what_the_champion_has(case):
    """Three champions on, slow drift has added up."""
    slow = [one.model_copy(update={"look": look(one.look.speed - 0.8)}) for one in case.profile.sample]
    (case.run / PROFILE_NAME).write_text(case.profile.model_copy(update={"sample": tuple(slow)}).model_dump_json())
    assert case.derivation().teacher is None


def test_what_does_not_fit_is_not_taken_over(case):
    wider = case.job.model.backbone.model_copy(update={"width": 8})
    model = case.job.model.model_copy(update={"backbone": wider})
    motion = case.job.motion.model_copy(update={"name": "temporal_gradient_slow"})
    case.job = case.job.model_copy(update={"model": model, "motion": motion})
    made = case.derivation()
    assert made.start is None and "another network" in made.start_says
    assert made.teacher is None and "does not serve" in made.teacher_says and "motion" in made.teacher_says
    assert derived_job(case.job, made) == case.job.model_copy(update={"name": "again-1"})


def test_a_teacher_whose_weights_are_gone_is_trained_anew_and_a_cold_start_is_a_setting(case):
    for path in (case.run / "teacher/weights").iterdir():
        path.unlink()
    made = case.derivation(warm_start=False)
    assert made.teacher is None and "does not serve" in made.teacher_says
    assert made.start is None and "warm_start is false" in made.start_says


def test_a_teacher_that_nothing_points_to_is_trained_anew(case, monkeypatch):
    monkeypatch.setattr(derive, "teacher_of", lambda registry, version: None)
    made = case.derivation()
    assert made.teacher is None and made.teacher_says.startswith(
        "trained anew: the champion's run is gone, or does not say where"
    )
    assert made.start == "models:/tiny/3"


OURS = {"tadscale.storage": "/runs", "tadscale.job": "old"}


@pytest.mark.parametrize(
    ("named", "tags", "url"),
    [
        ("null", OURS, "/runs/old/teacher/weights"),
        ("/runs/first/teacher/weights", OURS, "/runs/first/teacher/weights"),
        ("models:/teacher@champion", OURS, "/runs/old/named-teacher"),
        ("null", {}, None),
        ("models:/teacher@champion", {"tadscale.job": "old"}, None),
    ],
)
def test_a_champion_s_teacher_is_its_run_s_or_the_one_that_its_job_names(named, tags, url):
    data = SimpleNamespace(params={"teacher.url": named}, tags=tags)
    registry: Any = SimpleNamespace(run_of=lambda version: SimpleNamespace(data=data))
    assert teacher_of(registry, CHAMPION) == url


def test_a_run_is_named_by_all_that_decides_it_and_by_nothing_else():
    known = ("again", "settings", "data", "champion")
    assert run_name(*known) == run_name(*known) and run_name(*known).startswith("again-")
    others = [(*known[:place], "other", *known[place + 1 :]) for place in range(4)]
    assert len({run_name(*one) for one in (known, *others)}) == 5
    assert join("x", run_name(*known)).count("/") == 1
