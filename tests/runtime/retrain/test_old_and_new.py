"""Scores on old and on new test videos, from files that evaluation and gate leave."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tadscale.data.annotations import detections_document
from tadscale.data.manifest import make_manifest
from tadscale.metrics.tables import DetectionTable
from tadscale.retrain.profile import profile_of
from tadscale.runtime.retrain.old_and_new import score_by_age
from tadscale.runtime.stage.job import JobConfig
from tadscale.segments import Detection
from tests.retrain.videos import manifest, row

OLD, NEW = [row(index, "test") for index in (1, 2)], [row(index, "test") for index in (3, 4, 5, 6)]
BEFORE = profile_of(manifest(1), OLD, lambda video: None, [])
VIDEOS = make_manifest("shards", [row(9), *OLD, *NEW], ["jump", "run"])


@pytest.fixture
def job(tmp_path: Path) -> JobConfig:
    """The challenger finds everything, the champion what is old."""
    settings = {"kind": "distill", "name": "x", "storage": str(tmp_path), "data": {"url": "shards"}}
    for name, found in {"evaluation/decomposed": [*OLD, *NEW], "gate/version-3": OLD}.items():
        rows = [Detection(video=video.key, label="run", start_s=1.0, end_s=2.0, score=0.5) for video in found]
        path = tmp_path / "x" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(detections_document(DetectionTable.from_detections(rows))))
    return JobConfig.model_validate(settings)


def test_each_age_is_scored_by_itself(job):
    scores = score_by_age(job, VIDEOS, BEFORE, 3)
    assert {age: (one.videos, one.champion, one.challenger) for age, one in scores.items()} == {
        "old": (2, 1.0, 1.0),
        "new": (4, 0.0, 1.0),
    }


def test_without_a_champion_or_its_profile_all_are_new_and_an_age_without_segments_is_left_out(job):
    scores = score_by_age(job, VIDEOS, None, None)
    assert {age: (one.videos, one.champion) for age, one in scores.items()} == {"new": (6, None)}
    bare = [video._replace(labels=(), start_s=(), end_s=()) for video in NEW]
    empty = replace(VIDEOS, rows=(*VIDEOS.rows[:3], *bare))
    assert set(score_by_age(job, empty, BEFORE, 3)) == {"old"}
