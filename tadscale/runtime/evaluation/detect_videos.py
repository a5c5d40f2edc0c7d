"""Evaluation's detections: every video decoded once, seen by several networks and their late fusions, over Ray Data."""

import json
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import ray.data
import torch
from numpy.typing import NDArray
from ray.data import Dataset, TaskPoolStrategy
from torch import Tensor

from tadscale.config import Config
from tadscale.data.decode import decode_frames
from tadscale.data.flow_windows import check_flow, cut_flow, read_flow
from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.motion_identity import check_same_motion, motion_fingerprint
from tadscale.data.quarantine import DataError, QuarantineBudget, QuarantineEntry
from tadscale.data.windows import WindowConfig, read_video, tile
from tadscale.flow.motion import MotionConfig, build_motion, window_motion
from tadscale.models.detector import rgb_input
from tadscale.models.heads.base import Predictions, WindowDetections
from tadscale.network import NetworkSpec, load_network, read_spec
from tadscale.runtime.cluster.capacity import ClusterConfig, check_capacity, connect
from tadscale.runtime.pipeline.dataset import APART, PlanSource, in_order, motion_pool
from tadscale.runtime.pipeline.upload import Upload
from tadscale.segments import Detection
from tadscale.serving.inference import InferenceConfig, merge_windows

WINDOWS_PER_PACKET = 8  # of one video, consecutive: the frames that they share are decoded and sent once
SAMPLING = ("frames", "stride_frames", "fps", "height", "width")


class Detector(Config):
    """Something to evaluate: one trained network, or the late fusion of several."""

    name: str
    """What its detections are called in the result."""
    weights_urls: tuple[str, ...]
    """`StageResult.weights_url` of one network; of several, their predictions are fused by their head."""


class VideosDetected(NamedTuple):
    """What was found in a subset."""

    detections: dict[str, list[Detection]]
    """By detector's name; by video in the manifest's order, and by descending score."""
    failures: tuple[QuarantineEntry, ...]
    """Videos that could not be used: nothing is found in them."""


class _Job(NamedTuple):
    """What the tasks and actors need to know."""

    detectors: tuple[Detector, ...]
    data_url: str
    subset: str
    window: WindowConfig
    inference: InferenceConfig
    device: str
    threads: int
    motion: MotionConfig | None
    motion_fingerprint: str

    @property
    def flow_url(self) -> str | None:
        """Shards of precomputed motion, where any is read."""
        return self.motion.flow_url if self.motion else None


def detect_videos(
    detectors: Sequence[Detector],
    *,
    data_url: str,
    subset: str,
    cluster: ClusterConfig,
    inference: InferenceConfig = InferenceConfig(),  # noqa: B008 - frozen
    motion: MotionConfig | None = None,
) -> VideosDetected:
    """Detect actions in all videos of a subset, in one pass over the data for all detectors.

    Args:
        detectors: what to evaluate; a network that several of them use is run once.
        data_url: shards with their manifest.
        subset: which of the manifest's videos.
        cluster: `cpus_per_fetch`, and the `motion` fields for the processes that run the networks.
        inference: how detections are read off and merged.
        motion: what teachers see, where its weights or shards lie elsewhere than in training; by default as it was then.

    Raises:
        ValueError: the networks differ in classes, sampling or motion, or the cluster is too small.
        StorageError: the storage cannot be reached.
    """
    manifest = read_manifest(data_url).subset(subset)
    specs = [read_spec(url) for url in _networks(detectors)]
    _check_alike(specs, manifest, list(_networks(detectors)))
    taught = next((spec for spec in specs if spec.mode == "teacher"), None)
    seen = _checked_motion(taught, motion or taught.motion) if taught else None
    connect(cluster)
    check_capacity(cluster, motion=True, training=False)
    job = _Job(
        tuple(detectors),
        data_url,
        subset,
        specs[0].window,
        inference,
        cluster.motion_device,
        cluster.threads_per_motion,
        seen,
        taught.motion_fingerprint if taught else "",
    )
    if job.flow_url is not None:
        check_flow(job.flow_url, manifest, job.window, QuarantineBudget(max_fraction=1.0))  # a job is strict before
    found: dict[str, list[Detection]] = {detector.name: [] for detector in detectors}
    failures = []
    for video, rows in groupby(_rows(_build(job, len(manifest), cluster)), key=lambda row: row.video):
        of_video = list(rows)
        bad = [_failure(manifest, row) for row in of_video if row.error]
        failures += bad
        for index, detector in enumerate(detectors if not bad else ()):
            windows = [(row.start_frames, row.found) for row in of_video if row.detector == index and row.found]
            found[detector.name] += _merge(manifest, video, windows, job)
    return VideosDetected(found, tuple(failures))


class _Row(NamedTuple):
    """What one detector found in one window; or why a video cannot be used."""

    video: int
    detector: int
    start_frames: int
    found: WindowDetections | None
    error: str


def _networks(detectors: Sequence[Detector]) -> dict[str, None]:
    """The networks' URLs, each once, in order."""
    return dict.fromkeys(url for detector in detectors for url in detector.weights_urls)


def _check_alike(specs: Sequence[NetworkSpec], manifest: Manifest, urls: Sequence[str]) -> None:
    def facts(spec: NetworkSpec) -> dict[str, Any]:
        seen = {"motion": spec.motion_fingerprint} if spec.mode == "teacher" else {}
        return {"classes": spec.classes, **{name: getattr(spec.window, name) for name in SAMPLING}, **seen}

    for spec, url in zip(specs, urls, strict=True):
        if spec.classes != manifest.classes:
            raise ValueError(
                f"{url} knows {len(spec.classes)} classes that are not the {len(manifest.classes)} of {manifest.url}: "
                "evaluate it on the data set that it was trained for"
            )
        expected = {name: value for one in specs for name, value in facts(one).items()}
        differing = [name for name, value in facts(spec).items() if expected[name] != value]
        if differing:
            raise ValueError(
                f"{url} differs in {differing} from the other networks: one pass over the videos cannot serve both; "
                "evaluate them in two calls"
            )


def _checked_motion(teacher: NetworkSpec, motion: MotionConfig) -> MotionConfig:
    if (found := motion_fingerprint(motion)) != teacher.motion_fingerprint:
        raise ValueError(
            f"the teacher was trained on the motion {teacher.motion_fingerprint}, and that is {found} now: settings, "
            "weights or flow shards were changed since, or this tadscale computes it otherwise; train the teacher anew"
        )
    return motion


def _build(job: _Job, videos: int, cluster: ClusterConfig) -> Dataset:
    dataset = ray.data.read_datasource(PlanSource(videos), num_cpus=0, compute=TaskPoolStrategy(size=1))
    dataset = dataset.map_batches(
        _fetch_video, fn_kwargs={"job": job}, batch_size=1, num_cpus=cluster.cpus_per_fetch, **APART
    )
    dataset = dataset.map_batches(
        _Networks,
        fn_constructor_kwargs={"job": job},
        batch_size=1,
        compute=motion_pool(cluster),
        num_cpus=cluster.cpus_per_motion,
        num_gpus=cluster.gpus_per_motion,
    )
    return in_order(dataset)


def _fetch_video(batch: dict[str, NDArray], job: _Job) -> Iterator[dict[str, NDArray]]:
    """A video's windows, `WINDOWS_PER_PACKET` at a time; a video that fails ends with a packet that says so."""
    [index] = batch["packet"].tolist()
    manifest = read_manifest(job.data_url).subset(job.subset)
    row = manifest.row(index)
    table = tile(manifest, job.window)
    ids = np.flatnonzero(table.video == index)
    try:
        video = read_video(row)
        flow = read_flow(job.flow_url, row.key) if job.flow_url else None
        for first in range(0, len(ids), WINDOWS_PER_PACKET):
            part = ids[first : first + WINDOWS_PER_PACKET]
            packet = _packet(video, index, table.start_frames[part], table.valid_frames[part], job.window)
            if flow is not None:
                starts, valid = table.start_frames[part].tolist(), table.valid_frames[part].tolist()
                cut = [cut_flow(flow, *window, job.window) for window in zip(starts, valid, strict=True)]
                packet["flow"] = np.stack(cut)[None]  # [1, n, T, H, W, 3]
            yield packet
    except DataError as error:
        yield _failed(index, error.reason, job)


def _packet(
    video: bytes, index: int, starts: NDArray[np.int64], valid: NDArray[np.int64], config: WindowConfig
) -> dict[str, NDArray]:
    """A row: the frames that the windows cover `[1, U, H, W, 3]`, the windows' starts and lengths `[1, n]`."""
    times_s = np.arange(starts[0], int((starts + valid).max())) / config.fps  # [U]
    return {
        "video": np.array([index]),
        "frames": decode_frames(video, times_s, (config.height, config.width))[None],
        "start_frames": starts[None],
        "valid_frames": valid[None],
        "error": np.array([""]),
    }


def _failed(index: int, reason: str, job: _Job) -> dict[str, NDArray]:
    config = job.window
    flow = {"flow": np.zeros((1, 1, 1, config.height, config.width, 3), np.uint8)} if job.flow_url else {}
    return flow | {
        "video": np.array([index]),
        "frames": np.zeros((1, 1, config.height, config.width, 3), np.uint8),
        "start_frames": np.zeros((1, 1), np.int64),
        "valid_frames": np.zeros((1, 1), np.int64),
        "error": np.array([reason]),
    }


class _Networks:
    """Actor: all networks on a packet's windows, and what each detector makes of their predictions."""

    def __init__(self, job: _Job) -> None:
        torch.set_num_threads(job.threads)
        self._job = job
        self._upload = Upload(job.device)
        self._computing = threading.Lock()
        loaded = {url: load_network(url) for url in _networks(job.detectors)}
        self._networks: dict[str, tuple[Any, str]] = {
            url: (network.to(job.device), spec.mode) for url, (network, spec) in loaded.items()
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
        cut, exists = _cut(packet["frames"], starts, valid, self._job.window.frames)
        windows, mask = self._upload(cut), self._upload(exists)
        moving = self._upload(packet["flow"].copy()) if "flow" in packet else windows
        with self._computing:
            return self._read(starts.tolist(), windows, moving, mask, valid.tolist())

    def _read(
        self, starts: list[int], windows: Tensor, moving: Tensor, mask: Tensor, valid: list[int]
    ) -> list[list[Any]]:
        """What each detector makes of windows `[n, T, H, W, 3]`, of which `valid` frames exist, mask `[n, T]`."""
        predictions = {url: self._predict(url, windows, moving, mask, valid) for url in self._networks}
        rows: list[list[Any]] = []
        for index, detector in enumerate(self._job.detectors):
            head = self._networks[detector.weights_urls[0]][0].get_submodule("head")
            members = [predictions[url] for url in detector.weights_urls]
            fused = head.fuse(members) if len(members) > 1 else members[0]
            nms, top_k = self._job.inference.nms, self._job.inference.window_top_k
            for start, found in zip(starts, head.decode(fused, top_k=top_k, min_score=nms.min_score), strict=True):
                rows.append([index, start, *(column.cpu().tolist() for column in found)])
        return rows

    def _predict(self, url: str, windows: Tensor, moving: Tensor, mask: Tensor, valid: list[int]) -> Predictions:
        """Of one network: on windows, or on the motion that is made of `moving`, which may be precomputed."""
        network, mode = self._networks[url]
        if mode != "teacher":
            return network.detect(rgb_input(windows), mask)
        assert self._motion is not None
        return network.detect(window_motion(self._motion, moving, valid), mask)


def _cut(frames: NDArray, starts: NDArray, valid: NDArray, length: int) -> tuple[NDArray, NDArray]:
    """Windows `[n, T, H, W, 3]` and their masks `[n, T]` out of the frames that they share, as `load_window` makes them."""
    windows = np.zeros((len(starts), length, *frames.shape[1:]), np.uint8)
    for window, start, count in zip(windows, starts - starts[0], valid, strict=True):
        window[:count] = frames[start : start + count]
    return windows, np.arange(length) < valid[:, None]


def _rows(dataset: Dataset) -> Iterator[_Row]:
    for batch in dataset.iter_batches(batch_size=1, prefetch_batches=1):
        [video], [error], [text] = batch["video"].tolist(), batch["error"].tolist(), batch["rows"].tolist()
        if error:
            yield _Row(video, -1, 0, None, error)
        for detector, start, segments, scores, labels in json.loads(text):
            found = WindowDetections(
                torch.tensor(segments).reshape(-1, 2), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64)
            )
            yield _Row(video, detector, start, found, "")


def _failure(manifest: Manifest, row: _Row) -> QuarantineEntry:
    video = manifest.row(row.video)
    return QuarantineEntry(shard=video.shard, key=video.key, reason=row.error, stage="decode")


def _merge(
    manifest: Manifest, index: int, windows: Sequence[tuple[int, WindowDetections]], job: _Job
) -> Iterator[Detection]:
    video = manifest.row(index)
    merged = merge_windows(windows, fps=job.window.fps, duration_s=video.duration_s, nms=job.inference.nms)
    for (start_s, end_s), score, label in zip(merged.segments_s, merged.scores, merged.labels, strict=True):
        yield Detection(
            video=video.key,
            label=manifest.classes[label],
            start_s=float(start_s),
            end_s=float(end_s),
            score=float(score),
        )
