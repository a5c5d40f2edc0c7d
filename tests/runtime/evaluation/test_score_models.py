"""What evaluation makes of detections; detecting itself is tested in test_inference.py."""

import json
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from tadscale.cli import main
from tadscale.data.manifest import read_manifest
from tadscale.data.quarantine import QuarantineEntry, QuarantineExceeded
from tadscale.runtime.evaluation import score_models as evaluation
from tadscale.runtime.evaluation.detect_videos import VideosDetected
from tadscale.runtime.jobs.job_file import load_job
from tadscale.segments import Detection

JOB = Path(__file__).parents[3] / "jobs" / "distill.yaml"


def evaluate(sprites, tmp_path, monkeypatch, failures, run=None):
    """Evaluate one detector that has found one action, and failed at some of the three test videos."""
    manifest = read_manifest(sprites)
    found = Detection(video="test-00002", label=manifest.classes[0], start_s=1.0, end_s=2.0, score=0.5)
    bad = tuple(
        QuarantineEntry("shard-000001.tar", f"test-{n:05d}", "no video stream", "decode") for n in range(failures)
    )
    detected = VideosDetected({"baseline": [found]}, bad)
    monkeypatch.setattr(evaluation, "detect_videos", lambda *_, **__: detected)
    job = load_job(JOB, [f"storage={tmp_path}", f"data.url={sprites}"])
    return evaluation.evaluate_models(job, manifest, {}, {}, run or MagicMock())


def test_one_bad_video_is_borne(sprites, tmp_path, monkeypatch):
    assert evaluate(sprites, tmp_path, monkeypatch, failures=1).keys() == {"baseline"}


def test_more_bad_videos_than_the_budget_end_the_job_and_lose_nothing(sprites, tmp_path, monkeypatch):
    with pytest.raises(QuarantineExceeded, match="2 of 3 videos"):
        evaluate(sprites, tmp_path, monkeypatch, failures=2)
    [scores] = tmp_path.rglob("scores.json")
    assert json.loads(scores.read_text()).keys() == {"baseline"}


def test_the_report_command_reads_what_an_evaluation_leaves(sprites, tmp_path, monkeypatch, capsys):
    """The page is in the run, and the same detectors, thresholds and figures come out of the folder afterwards."""
    run = MagicMock()
    scores = evaluate(sprites, tmp_path, monkeypatch, failures=0, run=run)
    pages = {call.args[1]: call.args[0] for call in run.log_text.call_args_list}
    assert "Error profile" in pages["report.html"]
    [folder] = [path.parents[1] for path in tmp_path.rglob("scores.json")]
    assert main(["report", str(folder), "--html", str(tmp_path / "report.html")]) == 0
    assert f"baseline: average mAP {100 * scores['baseline'].average:.2f}" in capsys.readouterr().out
    sections = [
        page[page.index("<section") :] for page in (pages["report.html"], (tmp_path / "report.html").read_text())
    ]
    assert sections[0] == sections[1]


def test_the_videos_can_be_watched_and_the_hardest_come_first(sprites, tmp_path, monkeypatch):
    manifest = read_manifest(sprites)
    test = manifest.subset("test")
    good, hard = test.row(1), test.row(2)
    found = [
        Detection(video=good.key, label=label, start_s=start_s, end_s=end_s, score=0.9)
        for label, start_s, end_s in zip(good.labels, good.start_s, good.end_s, strict=True)
    ]
    monkeypatch.setattr(evaluation, "detect_videos", lambda *_, **__: VideosDetected({"baseline": found}, ()))
    job = load_job(JOB, [f"storage={tmp_path}", f"data.url={sprites}"])
    run = MagicMock()
    evaluation.evaluate_models(job, manifest, {}, {}, run)
    [page] = [call.args[0] for call in run.log_text.call_args_list if call.args[1] == "timelines.html"]
    assert page.count("data:video/mp4;base64,") == len(test)
    assert 'data-precision="1.0000"' in page and 'data-precision="0.0000"' in page
    assert page.index(f'data-video="{hard.key}"') < page.index(f'data-video="{good.key}"')


def test_a_detector_that_found_nothing_is_reported_too(sprites, tmp_path, monkeypatch):
    detected = VideosDetected({"baseline": []}, ())
    monkeypatch.setattr(evaluation, "detect_videos", lambda *_, **__: detected)
    job = load_job(JOB, [f"storage={tmp_path}", f"data.url={sprites}"])
    scores = evaluation.evaluate_models(job, read_manifest(sprites), {}, {}, MagicMock())
    assert scores["baseline"].average == 0
