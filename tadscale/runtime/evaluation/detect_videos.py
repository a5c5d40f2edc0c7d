"""Evaluation's detections: every video decoded once, seen by several networks and their late fusions."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from tadscale.data.flow_windows import check_flow
from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.quarantine import QuarantineBudget, QuarantineEntry
from tadscale.errors import UserError
from tadscale.flow.motion import MotionConfig
from tadscale.models.heads.base import WindowDetections
from tadscale.network import InferenceConfig, NetworkSpec, read_spec
from tadscale.runtime.cluster.capacity import ClusterConfig, check_capacity, connect, nodes_at_hand
from tadscale.runtime.evaluation.video_pass import Candidate, VideoPass, in_this_process, network_urls, over_ray
from tadscale.runtime.stage.teacher_fit import SAMPLING
from tadscale.segments import Detection
from tadscale.serving.path import DetectionPath


class VideosDetected(NamedTuple):
    """What was found in a subset."""

    detections: dict[str, list[Detection]]
    """By candidate's name; by video in the manifest's order, and by descending score."""
    failures: tuple[QuarantineEntry, ...]
    """Videos that could not be used: nothing is found in them."""


def detect_videos(
    candidates: Sequence[Candidate],
    *,
    data_url: str,
    subset: str,
    cluster: ClusterConfig,
    inference: InferenceConfig = InferenceConfig(),  # noqa: B008 - frozen
    motion: MotionConfig | None = None,
) -> VideosDetected:
    """Detect actions in all videos of a subset, in one pass over the data for all candidates.

    Args:
        candidates: what to evaluate; a network that several of them use is run once.
        data_url: shards with their manifest.
        subset: which of the manifest's videos.
        cluster: `cpus_per_fetch`, and the `motion` fields for the processes that run the networks. Where its data plane is
            the embedded one, and there is one node, networks run in this process, on the device and threads of motion.
        inference: how detections are read off and merged.
        motion: what teachers see; with one among the networks it must be what that was trained on.

    Raises:
        UserError: the networks differ in classes, sampling or motion, or the cluster is too small.
        StorageError: the storage cannot be reached.
    """
    manifest = read_manifest(data_url).subset(subset)
    specs = [read_spec(url) for url in network_urls(candidates)]
    _check_alike(specs, manifest, list(network_urls(candidates)))
    taught = next((spec for spec in specs if spec.reads_motion), None)
    seen = _checked_motion(taught, motion) if taught else None
    job = VideoPass(
        tuple(candidates),
        data_url,
        subset,
        DetectionPath(specs[0].window, inference, manifest.classes),
        cluster.motion_device,
        cluster.threads_per_motion,
        seen,
        taught.motion_fingerprint if taught else "",
        manifest.stated,
    )
    if job.flow_url is not None:
        check_flow(
            job.flow_url, manifest, job.path.window, QuarantineBudget(max_fraction=1.0)
        )  # a job is strict before
    detections: dict[str, list[Detection]] = {candidate.name: [] for candidate in candidates}
    failures = []
    for video, rows in groupby(_rows(_seen(job, len(manifest), cluster)), key=lambda row: row.video):
        of_video = list(rows)
        bad = [_failure(manifest, row) for row in of_video if row.error]
        failures += bad
        for index, candidate in enumerate(candidates if not bad else ()):
            windows = [
                (row.start_frames, row.detections) for row in of_video if row.candidate == index and row.detections
            ]
            whole = manifest.row(video)
            detections[candidate.name] += job.path.merge(windows, video=whole.key, duration_s=whole.duration_s)
    return VideosDetected(detections, tuple(failures))


def _seen(job: VideoPass, videos: int, cluster: ClusterConfig) -> Iterator[dict[str, NDArray]]:
    """What was found in each packet of windows, wherever the pass is made."""
    if cluster.detects_here(nodes_at_hand(cluster)):
        return in_this_process(job, videos)
    connect(cluster)
    check_capacity(cluster, motion=True, training=False)
    return over_ray(job, videos, cluster)


class _Row(NamedTuple):
    """What one candidate found in one window; or why a video cannot be used."""

    video: int
    candidate: int
    start_frames: int
    detections: WindowDetections | None
    error: str


def _check_alike(specs: Sequence[NetworkSpec], manifest: Manifest, urls: Sequence[str]) -> None:
    def facts(spec: NetworkSpec) -> dict[str, Any]:
        seen = {"motion": spec.motion_fingerprint} if spec.reads_motion else {}
        cut = {name: getattr(spec.window, name) for name in (*SAMPLING, "stride_frames")}
        return {"classes": spec.classes, **cut, **seen}

    for spec, url in zip(specs, urls, strict=True):
        if spec.classes != manifest.classes:
            raise UserError(
                f"{url} knows {len(spec.classes)} classes that are not the {len(manifest.classes)} of {manifest.url}: "
                "evaluate it on the data set that it was trained for"
            )
        expected = {name: value for one in specs for name, value in facts(one).items()}
        differing = [name for name, value in facts(spec).items() if expected[name] != value]
        if differing:
            raise UserError(
                f"{url} differs in {differing} from the other networks: one pass over the videos cannot serve both; "
                "evaluate them in two calls"
            )


def _checked_motion(teacher: NetworkSpec, motion: MotionConfig | None) -> MotionConfig:
    if motion is None:
        raise UserError(f"a motion teacher is to be evaluated: say how its motion {teacher.motion_fingerprint} is made")
    if (fingerprint := motion_fingerprint(motion)) != teacher.motion_fingerprint:
        raise UserError(
            f"the teacher was trained on the motion {teacher.motion_fingerprint}, and that is {fingerprint} now: settings, "
            "weights or flow shards were changed since, or this tadscale computes it otherwise; train the teacher anew"
        )
    return motion


def _rows(batches: Iterable[dict[str, NDArray]]) -> Iterator[_Row]:
    for batch in batches:
        [video], [error], [text] = batch["video"].tolist(), batch["error"].tolist(), batch["rows"].tolist()
        if error:
            yield _Row(video, -1, 0, None, error)
        for candidate, start, segments, scores, labels in json.loads(text):
            detections = WindowDetections(
                torch.tensor(segments).reshape(-1, 2), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64)
            )
            yield _Row(video, candidate, start, detections, "")


def _failure(manifest: Manifest, row: _Row) -> QuarantineEntry:
    video = manifest.row(row.video)
    return QuarantineEntry(shard=video.shard, key=video.key, reason=row.error, stage="decode")
