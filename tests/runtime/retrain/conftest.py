"""A retraining of a tiny job, on videos that can grow; and a training that takes no time."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.network import Mode, NetworkSpec, save_network
from tadscale.retrain.record import RetrainRecord
from tadscale.runtime.cluster.stopping import StopToken
from tadscale.runtime.models.data_profile import write_profile
from tadscale.runtime.models.registry import GATE_PREFIX, Registry
from tadscale.runtime.retrain import run_training
from tadscale.runtime.retrain.run_retrain import run_retrain
from tadscale.runtime.retrain.spec import load_retrain
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import network_of
from tadscale.runtime.stage.stopwatch import TimeSplit
from tadscale.runtime.tracking.track import track_job
from tadscale.serving.predictor import PACKAGED_AT
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401

NAME = "tiny"
JOB = {
    "kind": "distill",
    "name": "base",
    "storage": "elsewhere",
    "data": {"window": {"frames": 16, "stride_frames": 8, "fps": 5, "height": 32, "width": 32}},
    "motion": {"name": "temporal_gradient_fast"},
    "model": {
        "backbone": {"name": "small3d", "width": 4},
        "dim": 8,
        "head": {"name": "actionformer", "dim": 8, "levels": 2, "heads": 2, "stem_blocks": 1},
    },
    "tracking": {"registered_model": NAME},
}


def draw(folder: Path, train: int, test: int = 3) -> Manifest:
    """Videos of 32 x 32 pixels and 6 s; the first of more are those of fewer."""
    config = SpritesConfig(train=train, validation=0, test=test, duration_s=6.0, size=32)
    return write_shards(draw_videos(config), str(folder), videos_per_shard=100, overwrite=True)


@pytest.fixture
def retrain_file(storage: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A retraining that five new videos are enough for; its videos are not there yet."""
    document = JOB | {"data": JOB["data"] | {"url": str(tmp_path / "videos")}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(document))
    retrain = {"kind": "retrain", "name": "again", "storage": str(storage), "job": "base.yaml"}
    retrain |= {"when": {"min_new_videos": 5}, "settings": {"baseline": False}}
    (tmp_path / "retrain.yaml").write_text(yaml.safe_dump(retrain))
    return tmp_path / "retrain.yaml"


class Trained:
    """In place of `run_job`: leaves what a job leaves, untrained. Can die, and win or lose at the gate."""

    def __init__(self) -> None:
        self.ran: list[JobConfig] = []
        self.tags: list[dict[str, str]] = []
        self.dies = ""
        self.wins = False
        self.against: int | None = None
        """Whom the gate says it held a version against."""

    def __call__(self, job: JobConfig, console: Console, stop: StopToken, tags: dict[str, str]) -> Any:
        self.ran.append(job)
        self.tags.append(tags)
        with track_job(
            job.tracking, job=job.name, storage=job.storage, settings=job.model_dump(mode="json"), tags=tags
        ) as run:
            if job.teacher.url is None:
                _save(job, "teacher", Path(job.run_url, "teacher", "weights"))
            self._die("before registration")
            write_profile(job, run, job.student.mode)
            with TemporaryDirectory() as folder:
                torch.manual_seed(int(job.name[-8:], 16))
                _save(job, job.student.mode, Path(folder, PACKAGED_AT))
                registry = Registry(run.tracking_uri)
                model = registry.register(run, NAME, Path(folder), metrics={}, tags={"job": job.name})
            self._die("before the gate")
            if self.against is not None:
                registry.set_version_tags(NAME, model.version, {f"{GATE_PREFIX}against": str(self.against)})
                model = registry.version(NAME, model.version)
            if self.wins:
                model = registry.promote(NAME, model.version, why="a test")
            self._die("after the gate")
        seconds = SimpleNamespace(seconds=TimeSplit(2.0, 1.0, 0.5))
        stages = {job.student.mode: seconds}
        return SimpleNamespace(model=model, tracking_uri=run.tracking_uri, run_id=run.run_id, stages=stages)

    def _die(self, where: str) -> None:
        if self.dies == where:
            raise KeyboardInterrupt(where)


def _network(job: JobConfig, mode: Mode) -> NetworkSpec:
    spec = network_of(job, mode, read_manifest(job.data.url).classes)
    return spec.model_copy(update={"motion_fingerprint": motion_fingerprint(job.motion)})


def _save(job: JobConfig, mode: Mode, folder: Path) -> None:
    spec = _network(job, mode)
    save_network(str(folder), spec, spec.build().state_dict())


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    fake = Trained()
    monkeypatch.setattr(run_training, "run_job", fake)
    return fake


@pytest.fixture
def tick(retrain_file: Path) -> Callable[..., RetrainRecord]:
    """Runs one."""

    def run(*overrides: str) -> RetrainRecord:
        return run_retrain(*load_retrain(retrain_file, list(overrides)), Console(), StopToken())

    return run


@pytest.fixture
def registry(storage: Path) -> Registry:  # noqa: F811
    return Registry(f"sqlite:///{storage}/mlflow.db")
