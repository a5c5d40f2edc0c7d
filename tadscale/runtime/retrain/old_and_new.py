"""Challenger and champion on the test videos that the champion's time knew, and on those that came since."""

import json
from collections.abc import Mapping
from typing import Literal

from tadscale.data.annotations import parse_detections
from tadscale.data.manifest import Manifest
from tadscale.data.storage import join, read_text
from tadscale.metrics.average_precision import evaluate_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.report.inputs import EVALUATION
from tadscale.retrain.profile import DataProfile, video_digest
from tadscale.retrain.record import AgeScore
from tadscale.runtime.evaluation.score_models import TestVideos
from tadscale.runtime.jobs.gate.run_gate import GATE_FOLDER, detections_name
from tadscale.runtime.stage.job import JobConfig
from tadscale.segments import Segment

Age = Literal["old", "new"]


def score_by_age(
    job: JobConfig, manifest: Manifest, before: DataProfile | None, champion: int | None
) -> dict[Age, AgeScore]:
    """Average mAP on old and on new test videos, by what evaluation and gate detected; one without segments is left out.

    Args:
        job: that was run.
        manifest: its videos under `data.url`.
        before: what the champion was trained on; without it no video is old.
        champion: its version, which the gate ran.
    """
    known = set(before.test_digests) if before else set()
    test = manifest.subset(job.data.test_subset)
    old = {row.key for row in test.facts() if video_digest(row) in known}
    segments = TestVideos.of(manifest, job.data.test_subset).segments
    challenger = _detections(join(job.run_url, EVALUATION, f"{job.student.mode}.json"))
    reigned = None if champion is None else _detections(join(job.run_url, GATE_FOLDER, detections_name(champion)))
    ages: dict[Age, Mapping[str, list[Segment]]] = {
        "old": {video: found for video, found in segments.items() if video in old},
        "new": {video: found for video, found in segments.items() if video not in old},
    }
    scores: dict[Age, AgeScore] = {}
    for age, of_age in ages.items():
        if challenger is not None and any(of_age.values()):
            ours = _average(challenger, of_age, job)
            theirs = None if reigned is None else _average(reigned, of_age, job)
            scores[age] = AgeScore(videos=len(of_age), champion=theirs, challenger=ours)
    return scores


def _detections(url: str) -> DetectionTable | None:
    text = read_text(url)
    return parse_detections(json.loads(text), url) if text else None


def _average(table: DetectionTable, segments: Mapping[str, list[Segment]], job: JobConfig) -> float:
    rows = DetectionTable.from_detections(row for row in table.to_detections() if row.video in segments)
    score = evaluate_detections(rows, GroundTruth.from_segments(segments), job.evaluate.tiou, ties="stable")
    return float(score.average)
