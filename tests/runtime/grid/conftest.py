"""A grid of small jobs, and one in place of `run_job`."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from tadscale.data.annotations import detections_document
from tadscale.data.manifest import read_manifest
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.metrics.average_precision import evaluate_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.runtime.cluster.stopping import StopToken
from tadscale.runtime.evaluation.score_models import TestVideos as Videos
from tadscale.runtime.grid import run_grid as module
from tadscale.runtime.grid.spec import Cell
from tadscale.runtime.stage.job import JobConfig
from tadscale.segments import Detection

JOB = {
    "kind": "distill",
    "name": "base",
    "storage": "elsewhere",
    "data": {"url": "data", "window": {"frames": 64, "height": 56, "width": 56, "stride_frames": 64}},
    "model": {"head": {"name": "actionformer", "levels": 3}},
}
GRID = {
    "kind": "grid",
    "name": "agnostic",
    "storage": "runs",
    "job": "base.yaml",
    "settings": {"optim": {"epochs": 2}},
    "axes": {
        "width": {"narrow": {"model": {"backbone": {"name": "small3d", "width": 8}}}, "wide": {}},
        "fusion": {"laf": {}, "sum": {"model": {"fusion": "sum"}}},
    },
    "modes": ["decomposed"],
    "seeds": [0, 1],
}


@pytest.fixture
def grid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def write(**changes: Any) -> Path:
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(JOB, sort_keys=False))
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID | changes, sort_keys=False))
        return tmp_path / "grid.yaml"

    return write


def cell_of(cells: list[Cell], name: str) -> JobConfig:
    [cell] = [cell for cell in cells if cell.name == name]
    return cell.jobs["decomposed"]


class Trained:
    """In place of `run_job`: leaves detections of a quality that depends on the cell, and counts what was run."""

    def __init__(self, truth: dict[str, list[Any]]) -> None:
        self.truth, self.ran, self.tags = truth, [], []

    def __call__(self, job: JobConfig, console: Console, stop: StopToken, tags: dict[str, str]) -> Any:
        self.ran.append(job.name)
        self.tags.append(tags)
        found = {"teacher": 3, "baseline": 2, job.student.mode: 4 + job.seed, "two_stream": 6}  # videos that are right
        scores = {}
        for name, right in found.items():
            rows = [
                Detection(video=video, label=segment.label, start_s=segment.start_s, end_s=segment.end_s, score=0.9)
                for video, segments in list(self.truth.items())[:right]
                for segment in segments
            ]
            table = DetectionTable.from_detections(rows)
            target = Path(job.run_url, "evaluation", f"{name}.json")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(detections_document(table)))
            scores[name] = evaluate_detections(
                table, GroundTruth.from_segments(self.truth), job.evaluate.tiou, ties="stable"
            )
        return SimpleNamespace(scores=scores)


def draw(folder: Path, test: int) -> None:
    """Small videos, of which so many are to test on."""
    small = SpritesConfig(train=2, validation=1, test=test, duration_s=8, size=56)
    shutil.rmtree(folder, ignore_errors=True)
    write_shards(draw_videos(small), str(folder), videos_per_shard=20)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trained]:
    draw(tmp_path / "data", test=8)
    fake = Trained(Videos.of(read_manifest(str(tmp_path / "data")), "test").segments)
    monkeypatch.setattr(module, "run_job", fake)
    yield fake
