"""Evaluate every trained network of a job alike: one pass over the test videos, one ground truth, one table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tadscale.data.annotations import AnnotatedVideo, detections_document, ground_truth_document
from tadscale.data.manifest import Manifest
from tadscale.data.quarantine import check_within_budget
from tadscale.data.storage import join, write_bytes
from tadscale.metrics.average_precision import MeanAveragePrecision, evaluate_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.report.diagnosis import diagnose
from tadscale.report.diagnosis_html import diagnosis_html
from tadscale.report.inputs import EVALUATION, GROUND_TRUTH, SCORES
from tadscale.report.summary import LAST
from tadscale.runtime.evaluation.detect_videos import VideosDetected, detect_videos
from tadscale.runtime.evaluation.pictures import hardest_first, log_curves, log_timelines, timelines_of
from tadscale.runtime.evaluation.video_pass import Candidate
from tadscale.runtime.stage.choice import Choice
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.tracking.run import Run
from tadscale.segments import Segment

TWO_STREAM = "two_stream"


@dataclass(frozen=True)
class TestVideos:
    """The ground truth of a subset, and how long its videos are."""

    segments: dict[str, list[Segment]]
    duration_s: dict[str, float]

    @classmethod
    def of(cls, manifest: Manifest, subset: str) -> "TestVideos":
        """Read them off a manifest."""
        rows = list(manifest.subset(subset).facts())
        segments = {
            row.key: [
                Segment(label, float(start), float(end))
                for label, start, end in zip(row.labels, row.start_s, row.end_s, strict=True)
            ]
            for row in rows
        }
        return cls(segments, {row.key: float(row.duration_s) for row in rows})

    def document(self, subset: str) -> bytes:
        """The same as ActivityNet JSON."""
        videos = (
            AnnotatedVideo(video=video, subset=subset, duration_s=self.duration_s[video], segments=tuple(segments))
            for video, segments in self.segments.items()
        )
        return json.dumps(ground_truth_document(videos)).encode()


def evaluate_models(
    job: JobConfig, manifest: Manifest, stages: Mapping[str, StageResult], choices: Mapping[str, Choice], run: Run
) -> dict[str, MeanAveragePrecision]:
    """Detect with every network and with teacher and baseline fused; score, picture and record it all.

    Args:
        job: the run.
        manifest: its data.
        stages: those that are finished, by mode.
        choices: which weights of each count. Where an epoch was chosen, the last weights are scored beside it, under the
            same name with `_last`.
        run: where it is recorded.

    Raises:
        ValueError: the test subset has no annotated segment.
        QuarantineExceeded: more of its videos are bad than may be; what was found in the others is written all the same.
        StorageError: the storage cannot be reached.
    """
    here = with_absolute_paths(job)
    detected = detect_videos(
        candidates(choices, here.teacher.url),
        data_url=here.data.url,
        subset=job.data.test_subset,
        cluster=job.cluster,
        inference=job.evaluate.inference,
        motion=here.motion,
    )
    videos = TestVideos.of(manifest, job.data.test_subset)
    truth = GroundTruth.from_segments(videos.segments)
    tables = {name: DetectionTable.from_detections(rows) for name, rows in detected.detections.items()}
    scores = {
        name: evaluate_detections(table, truth, job.evaluate.tiou, ties="stable") for name, table in tables.items()
    }
    _record(job, run, detected, scores)
    chosen = {name: table for name, table in tables.items() if not name.endswith(LAST)}
    _diagnose(job, run, videos, truth, chosen)
    _picture(job, run, stages, manifest, videos, chosen)
    check_within_budget(detected.failures, job.data.quarantine_budget, len(videos.segments))
    return scores


def candidates(choices: Mapping[str, Choice], teacher_url: str | None = None) -> list[Candidate]:
    """What is evaluated: each network, the teacher that was named in place of one, and the two-stream ceiling where flow
    teacher and RGB baseline are both there. Where epochs were chosen, all of it with the last weights, too."""
    scored = {name: choice for name, choice in choices.items() if name != "pretrain"}
    named = {"teacher": teacher_url} if teacher_url else {}
    found = _side_by_side(named | {name: choice.url for name, choice in scored.items()}, "")
    if any(choice.validation is not None for choice in scored.values()):
        last = named | {name: choice.last.weights_url for name, choice in scored.items()}
        found += [one for one in _side_by_side(last, LAST) if one.weights_urls != (teacher_url,)]
    return found


def _side_by_side(urls: Mapping[str, str], suffix: str) -> list[Candidate]:
    networks = [Candidate(name=f"{name}{suffix}", weights_urls=(url,)) for name, url in urls.items()]
    if "teacher" in urls and "baseline" in urls:
        both = (urls["teacher"], urls["baseline"])
        networks.append(Candidate(name=f"{TWO_STREAM}{suffix}", weights_urls=both))
    return networks


def _record(job: JobConfig, run: Run, detected: VideosDetected, scores: Mapping[str, MeanAveragePrecision]) -> None:
    """Detections and scores as files beside the stages and in the run."""
    for name, rows in detected.detections.items():
        document = json.dumps(detections_document(DetectionTable.from_detections(rows))).encode()
        write_bytes(join(job.run_url, EVALUATION, f"{name}.json"), document)
        run.log_bytes(document, f"detections/{name}.json")
    tables = {name: score.to_dict() for name, score in scores.items()}
    write_bytes(join(job.run_url, EVALUATION, SCORES), json.dumps(tables, indent=1).encode())
    run.log_dict(tables, SCORES)
    run.log_bytes(
        "".join(json.dumps(entry._asdict()) + "\n" for entry in detected.failures).encode(), "quarantine.jsonl"
    )
    for name, score in scores.items():
        metrics = {f"{name}/mAP_{tiou:g}": value for tiou, value in zip(score.tiou, score.per_tiou, strict=True)}
        run.log_metrics(metrics | {f"{name}/average_mAP": score.average})


def _diagnose(
    job: JobConfig, run: Run, videos: TestVideos, truth: GroundTruth, tables: Mapping[str, DetectionTable]
) -> None:
    """The page of `tadscale report` in the run, and beside the detections the ground truth that the command reads."""
    write_bytes(join(job.run_url, EVALUATION, GROUND_TRUTH), videos.document(job.data.test_subset))
    duration_s = np.array([videos.duration_s[video] for video in truth.videos])
    diagnoses = [
        diagnose(name, table, truth, tiou=job.evaluate.tiou, duration_s=duration_s) for name, table in tables.items()
    ]
    source = f"subset {job.data.test_subset}: {len(truth.videos)} videos, {len(truth)} instances"
    run.log_text(diagnosis_html(diagnoses, f"Report of {job.name}", source), "report.html")


def _picture(
    job: JobConfig,
    run: Run,
    stages: Mapping[str, StageResult],
    manifest: Manifest,
    videos: TestVideos,
    tables: Mapping[str, DetectionTable],
) -> None:
    """The pages and pictures to look at; videos that are hard for what the job is about come first."""
    truth = GroundTruth.from_segments(videos.segments)
    judged = tables[job.student.mode if job.student.mode in tables else list(tables)[-1]]
    timelines = hardest_first(
        timelines_of(videos.segments, videos.duration_s, tables), judged, truth, job.evaluate.tiou
    )
    log_timelines(run, timelines, manifest.subset(job.data.test_subset))
    log_curves(run, stages)


def score_facts(score: MeanAveragePrecision) -> dict[str, float]:
    """The figures that a registered version carries."""
    return {"average_mAP": score.average} | {
        f"mAP_{tiou:g}": float(value) for tiou, value in zip(score.tiou, score.per_tiou, strict=True)
    }
