"""Evaluation's detections: every video decoded once, seen by several networks and their late fusions, over Ray Data."""

import json
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import ray.data
import torch
from numpy.typing import NDArray
from ray.data import Dataset, TaskPoolStrategy
from torch import Tensor

from tadscale.config import Config
from tadscale.data.flow_windows import blank_flow, check_flow, cut_flow, read_flow
from tadscale.data.manifest import Manifest, open_manifest, read_manifest
from tadscale.data.motion_identity import check_same_motion, motion_fingerprint
from tadscale.data.quarantine import DataError, QuarantineBudget, QuarantineEntry
from tadscale.data.windows import WindowConfig, WindowTable, read_video, tile
from tadscale.errors import UserError
from tadscale.flow.motion import MotionConfig, build_motion, window_motion
from tadscale.models.heads.base import Predictions, WindowDetections
from tadscale.models.heads.objective import build_objective
from tadscale.network import InferenceConfig, NetworkSpec, load_network, read_spec
from tadscale.runtime.cluster.capacity import ClusterConfig, check_capacity, connect
from tadscale.runtime.pipeline.dataset import APART, PlanSource, in_order, motion_pool
from tadscale.runtime.pipeline.upload import Upload
from tadscale.segments import Detection
from tadscale.serving.path import DetectionPath

WINDOWS_PER_PACKET = 8  # of one video, consecutive: the frames that they share are decoded and sent once
SAMPLING = ("frames", "stride_frames", "fps", "height", "width", "features")


class Candidate(Config):
    """Something to evaluate: one trained network, or the late fusion of several."""

    name: str
    """What its detections are called in the result."""
    weights_urls: tuple[str, ...]
    """`StageResult.weights_url` of one network; of several, their predictions are fused by their head."""


class VideosDetected(NamedTuple):
    """What was found in a subset."""

    detections: dict[str, list[Detection]]
    """By candidate's name; by video in the manifest's order, and by descending score."""
    failures: tuple[QuarantineEntry, ...]
    """Videos that could not be used: nothing is found in them."""


class _Job(NamedTuple):
    """What the tasks and actors need to know."""

    candidates: tuple[Candidate, ...]
    data_url: str
    subset: str
    path: DetectionPath
    device: str
    threads: int
    motion: MotionConfig | None
    motion_fingerprint: str
    stated: tuple[str, ...]

    @property
    def flow_url(self) -> str | None:
        """Shards of precomputed motion, where any is read."""
        return self.motion.flow_url if self.motion else None


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
        cluster: `cpus_per_fetch`, and the `motion` fields for the processes that run the networks.
        inference: how detections are read off and merged.
        motion: what teachers see; with one among the networks it must be what that was trained on.

    Raises:
        UserError: the networks differ in classes, sampling or motion, or the cluster is too small.
        StorageError: the storage cannot be reached.
    """
    manifest = read_manifest(data_url).subset(subset)
    specs = [read_spec(url) for url in _networks(candidates)]
    _check_alike(specs, manifest, list(_networks(candidates)))
    taught = next((spec for spec in specs if spec.reads_motion), None)
    seen = _checked_motion(taught, motion) if taught else None
    connect(cluster)
    check_capacity(cluster, motion=True, training=False)
    job = _Job(
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
    for video, rows in groupby(_rows(_build(job, len(manifest), cluster)), key=lambda row: row.video):
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


class _Row(NamedTuple):
    """What one candidate found in one window; or why a video cannot be used."""

    video: int
    candidate: int
    start_frames: int
    detections: WindowDetections | None
    error: str


def _networks(candidates: Sequence[Candidate]) -> dict[str, None]:
    """The networks' URLs, each once, in order."""
    return dict.fromkeys(url for candidate in candidates for url in candidate.weights_urls)


def _check_alike(specs: Sequence[NetworkSpec], manifest: Manifest, urls: Sequence[str]) -> None:
    def facts(spec: NetworkSpec) -> dict[str, Any]:
        seen = {"motion": spec.motion_fingerprint} if spec.reads_motion else {}
        return {"classes": spec.classes, **{name: getattr(spec.window, name) for name in SAMPLING}, **seen}

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


def _build(job: _Job, videos: int, cluster: ClusterConfig) -> Dataset:
    dataset = ray.data.read_datasource(PlanSource(videos), num_cpus=0, compute=TaskPoolStrategy(size=1))
    dataset = dataset.map_batches(
        _fetch_video,
        fn_kwargs={"job": job},
        batch_size=1,
        compute=TaskPoolStrategy(size=cluster.max_fetches),
        num_cpus=cluster.cpus_per_fetch,
        resources=cluster.placed("fetch"),
        **APART,
    )
    dataset = dataset.map_batches(
        _Networks,
        fn_constructor_kwargs={"job": job},
        batch_size=1,
        compute=motion_pool(cluster),
        num_cpus=cluster.cpus_per_motion,
        num_gpus=cluster.gpus_per_motion,
        resources=cluster.placed("motion"),
    )
    return in_order(dataset)


def _fetch_video(batch: dict[str, NDArray], job: _Job) -> Iterator[dict[str, NDArray]]:
    """A video's windows, `WINDOWS_PER_PACKET` at a time; a video that fails ends with a packet that says so."""
    [index] = batch["packet"].tolist()
    manifest, table = _open_windows(job.data_url, job.subset, job.path.window, job.stated)
    row = manifest.row(index)
    ids = np.arange(*np.searchsorted(table.video, [index, index + 1]))
    try:
        video = read_video(row)
        flow = read_flow(job.flow_url, row.key) if job.flow_url else None
        for first in range(0, len(ids), WINDOWS_PER_PACKET):
            part = ids[first : first + WINDOWS_PER_PACKET]
            packet = _packet(video, index, table.start_frames[part], table.valid_frames[part], job.path)
            if flow is not None:
                starts, valid = table.start_frames[part].tolist(), table.valid_frames[part].tolist()
                cut = [cut_flow(flow, *window, job.path.window) for window in zip(starts, valid, strict=True)]
                packet["flow"] = np.stack(cut)[None]  # [1, n, T, H, W, 3] or [1, n, T, C]
            yield packet
    except DataError as error:
        yield _failed(index, error.reason, job)


@lru_cache(maxsize=1)
def _open_windows(url: str, subset: str, window: WindowConfig, stated: tuple[str, ...]) -> tuple[Manifest, WindowTable]:
    """The videos and their windows, once a process: the driver has verified the manifest, which states these digests."""
    manifest = open_manifest(url)
    if manifest.stated != stated:
        raise UserError(f"{url}: the manifest was made anew of other videos during evaluation: start the run again")
    videos = manifest.subset(subset)
    return videos, tile(videos, window)


def _packet(
    video: bytes, index: int, starts: NDArray[np.int64], valid: NDArray[np.int64], path: DetectionPath
) -> dict[str, NDArray]:
    """A row: the frames that the windows cover, `[1, U, H, W, 3]` or `[1, U, C]`, their starts and lengths `[1, n]`."""
    return {
        "video": np.array([index]),
        "frames": path.decode(video, starts, valid)[None],
        "start_frames": starts[None],
        "valid_frames": valid[None],
        "error": np.array([""]),
    }


def _failed(index: int, reason: str, job: _Job) -> dict[str, NDArray]:
    config = job.path.window
    flow = {"flow": blank_flow(job.flow_url, config, 1)[None, None]} if job.flow_url else {}
    return flow | {
        "video": np.array([index]),
        "frames": config.blank(1)[None],
        "start_frames": np.zeros((1, 1), np.int64),
        "valid_frames": np.zeros((1, 1), np.int64),
        "error": np.array([reason]),
    }


class _Networks:
    """Actor: all networks on a packet's windows, and what each candidate makes of their predictions."""

    def __init__(self, job: _Job) -> None:
        torch.set_num_threads(job.threads)
        self._job = job
        self._upload = Upload(job.device)
        self._computing = threading.Lock()
        loaded = {url: load_network(url) for url in _networks(job.candidates)}
        self._networks: dict[str, tuple[Any, NetworkSpec]] = {
            url: (network.to(job.device), spec) for url, (network, spec) in loaded.items()
        }
        self._motion = build_motion(job.motion) if job.motion else None
        if self._motion is not None:
            check_same_motion(self._motion, job.motion_fingerprint)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, NDArray]) -> dict[str, NDArray]:
        """One packet to one row: what was found, as JSON (`_Row`s without their video).

        Threads may call at once: they upload side by side, and compute one at a time.
        """
        [error] = batch["error"].tolist()
        rows = [] if error else self._detect({name: column[0] for name, column in batch.items()})
        return {"video": batch["video"], "error": batch["error"], "rows": np.array([json.dumps(rows)])}

    def _detect(self, packet: dict[str, NDArray]) -> list[list[Any]]:
        starts, valid = packet["start_frames"], packet["valid_frames"]
        cut, exists = self._job.path.cut(packet["frames"], starts, valid)
        windows, mask = self._upload(cut), self._upload(exists)
        moving = self._upload(packet["flow"].copy()) if "flow" in packet else windows
        with self._computing:
            predictions = {url: self._predict(url, windows, moving, mask, valid.tolist()) for url in self._networks}
            return list(self._read(predictions, starts.tolist()))

    def _predict(self, url: str, windows: Tensor, moving: Tensor, mask: Tensor, valid: list[int]) -> Predictions:
        """Of one network: on windows `[n, T, H, W, 3]` or `[n, T, C]`, of which `valid` frames exist, mask `[n, T]`; or on
        the motion that is made of `moving`, which may be precomputed."""
        network, spec = self._networks[url]
        if not spec.reads_motion:
            return network.detect(windows, mask)
        assert self._motion is not None
        return network.detect(window_motion(self._motion, moving, valid), mask)

    def _read(self, predictions: dict[str, Predictions], starts: list[int]) -> Iterator[list[Any]]:
        """Each candidate's detections in each window."""
        for index, candidate in enumerate(self._job.candidates):
            network, spec = self._networks[candidate.weights_urls[0]]
            members = [predictions[url] for url in candidate.weights_urls]
            if len(members) > 1:
                members = [build_objective(spec.model.head, len(spec.classes)).fuse(members)]
            for start, detections in zip(starts, self._job.path.read(network, members[0]), strict=True):
                yield [index, start, *(column.tolist() for column in detections)]


def _rows(dataset: Dataset) -> Iterator[_Row]:
    for batch in dataset.iter_batches(batch_size=1, prefetch_batches=1):
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
