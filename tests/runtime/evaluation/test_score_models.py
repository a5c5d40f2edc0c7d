"""What evaluation makes of detections; detecting itself is tested in test_inference.py."""

import json
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from tadscale.data.manifest import read_manifest
from tadscale.data.quarantine import QuarantineEntry, QuarantineExceeded
from tadscale.runtime.evaluation import score_models as evaluation
from tadscale.runtime.evaluation.detect_videos import VideosDetected
from tadscale.runtime.jobs.job_file import load_job
from tadscale.segments import Detection

JOB = Path(__file__).parents[3] / "jobs" / "distill.yaml"


def evaluate(sprites, tmp_path, monkeypatch, failures):
    """Evaluate one detector that has found one action, and failed at some of the three test videos."""
    manifest = read_manifest(sprites)
    found = Detection(video="test-00002", label=manifest.classes[0], start_s=1.0, end_s=2.0, score=0.5)
    bad = tuple(
        QuarantineEntry("shard-000001.tar", f"test-{n:05d}", "no video stream", "decode") for n in range(failures)
    )
    detected = VideosDetected({"baseline": [found]}, bad)
    monkeypatch.setattr(evaluation, "detect_videos", lambda *_, **__: detected)
    job = load_job(JOB, [f"storage={tmp_path}", f"data.url={sprites}"])
    return evaluation.evaluate_models(job, manifest, {}, MagicMock())


def test_one_bad_video_is_borne(sprites, tmp_path, monkeypatch):
    assert evaluate(sprites, tmp_path, monkeypatch, failures=1).keys() == {"baseline"}


def test_more_bad_videos_than_the_budget_end_the_job_and_lose_nothing(sprites, tmp_path, monkeypatch):
    with pytest.raises(QuarantineExceeded, match="2 of 3 videos"):
        evaluate(sprites, tmp_path, monkeypatch, failures=2)
    [scores] = tmp_path.rglob("scores.json")
    assert json.loads(scores.read_text()).keys() == {"baseline"}
