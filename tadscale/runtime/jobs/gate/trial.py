"""Both detectors on the same held-out videos, each as it is served: with its own windows and its own suppression."""

from collections.abc import Sequence
from typing import NamedTuple

from tadscale.data.manifest import Manifest
from tadscale.data.quarantine import QuarantineEntry, check_within_budget
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.runtime.evaluation.detect_videos import detect_videos
from tadscale.runtime.evaluation.score_models import TestVideos
from tadscale.runtime.evaluation.video_pass import Candidate
from tadscale.runtime.jobs.gate.contender import Contender
from tadscale.runtime.stage.job import JobConfig
from tadscale.segments import Detection


class Trial(NamedTuple):
    """What the contenders found, in their order."""

    ground_truth: GroundTruth
    tables: list[DetectionTable]


def hold_trial(job: JobConfig, manifest: Manifest, contenders: Sequence[Contender]) -> Trial:
    """Detect in the job's test subset with every contender, by the evaluation that scores a job's networks.

    In a video that failed for one of them nothing is found by any.

    Raises:
        UserError: a contender knows other classes than the data, or reads motion that the job does not make.
        QuarantineExceeded: more of the videos are bad than the job allows.
        StorageError: the storage cannot be reached.
    """
    videos = TestVideos.of(manifest, job.data.test_subset)
    detections: dict[str, list[Detection]] = {}
    bad: list[QuarantineEntry] = []
    for members in _passes(contenders):
        found, failures = _detect(job, members)
        detections |= found
        bad += failures
    check_within_budget(bad, job.data.quarantine_budget, len(videos.segments))
    lost = {entry.key for entry in bad}
    tables = [
        DetectionTable.from_detections(row for row in detections[one.url] if row.video not in lost)
        for one in contenders
    ]
    return Trial(GroundTruth.from_segments(videos.segments), tables)


def _passes(contenders: Sequence[Contender]) -> list[list[Contender]]:
    """Those that see the same windows and are read off alike share a pass over the videos."""
    passes: dict[tuple[str, str], list[Contender]] = {}
    for one in contenders:
        alike = (one.spec.window.model_dump_json(), one.spec.inference.model_dump_json())
        passes.setdefault(alike, []).append(one)
    return list(passes.values())


def _detect(
    job: JobConfig, members: Sequence[Contender]
) -> tuple[dict[str, list[Detection]], tuple[QuarantineEntry, ...]]:
    """What each of them found, by its URL, and the videos that failed."""
    detected = detect_videos(
        [Candidate(name=one.url, weights_urls=(one.url,)) for one in members],
        data_url=job.data.url,
        subset=job.data.test_subset,
        cluster=job.cluster,
        inference=members[0].spec.inference,
        motion=job.motion,
    )
    return detected.detections, detected.failures
