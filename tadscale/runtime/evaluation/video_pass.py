"""One pass over the videos of a subset: each decoded once, seen by several networks; over Ray Data, or in this process."""

import json
import logging
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from ray.data import Dataset
from ray.exceptions import RayActorError
from ray.util.annotations import RayDeprecationWarning
from torch import Tensor

from tadscale.config import Config
from tadscale.data.flow_windows import blank_flow, cut_flow, read_flow
from tadscale.data.manifest import Manifest, open_manifest
from tadscale.data.motion_identity import check_same_motion
from tadscale.data.quarantine import DataError
from tadscale.data.windows import WindowConfig, WindowTable, read_video, tile
from tadscale.errors import UserError
from tadscale.flow.motion import MotionConfig, build_motion, window_motion
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import build_objective
from tadscale.network import NetworkSpec, load_network
from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.runtime.pipeline.dataset import fetched, in_order, motion_actors
from tadscale.runtime.pipeline.upload import Upload
from tadscale.serving.path import DetectionPath

WINDOWS_PER_PACKET = 8  # of one video, consecutive: the frames that they share are decoded and sent once
MAX_DEATHS = 4  # of actors, and no video between them
PACKETS_AHEAD = 2  # of a pass in this process: one decoded while the networks see another

log = logging.getLogger(__name__)


class Candidate(Config):
    """Something to evaluate: one trained network, or the late fusion of several."""

    name: str
    """What its detections are called in the result."""
    weights_urls: tuple[str, ...]
    """`StageResult.weights_url` of one network; of several, their predictions are fused by their head."""


class VideoPass(NamedTuple):
    """One pass over the videos of a subset: what its processes and threads need to know."""

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


def network_urls(candidates: Sequence[Candidate]) -> dict[str, None]:
    """The networks' URLs, each once, in order."""
    return dict.fromkeys(url for candidate in candidates for url in candidate.weights_urls)


def over_ray(job: VideoPass, videos: int, cluster: ClusterConfig) -> Iterator[dict[str, NDArray]]:
    """The pass on a cluster's tasks and actors; what they found in each packet, in order.

    Where an actor dies, with its node or by itself, the pass goes on at the first video that was not seen to its end.

    Raises:
        RayActorError: the networks cannot be loaded; or so many actors have died one after the other, and no video was seen
            to its end in between.
    """
    seen, deaths = 0, 0
    while seen < videos:
        packets = _dataset(job, range(seen, videos), cluster).iter_batches(batch_size=1, prefetch_batches=1)
        try:
            for video, of_video in groupby(packets, key=lambda packet: int(packet["video"][0])):
                yield from list(of_video)
                seen, deaths = video + 1, 0
        except RayActorError as error:
            deaths += 1
            if error.actor_init_failed or deaths == MAX_DEATHS:
                raise
            log.warning("evaluation goes on at video %d of %d: %s", seen + 1, videos, str(error).splitlines()[0])


def in_this_process(job: VideoPass, videos: int) -> Iterator[dict[str, NDArray]]:
    """The same pass, packet by packet, in this process: a thread decodes, and this one runs the networks."""
    threads = torch.get_num_threads()
    networks = _Networks(job)  # sets torch's threads, as in a process of its own
    packets = (packet for index in range(videos) for packet in _fetch_video({"packet": np.array([index])}, job))
    try:
        with ThreadPoolExecutor(1, "fetch") as thread:
            begun = deque(thread.submit(next, packets, None) for _ in range(PACKETS_AHEAD))
            while (packet := begun.popleft().result()) is not None:
                begun.append(thread.submit(next, packets, None))
                yield networks(packet)
    finally:
        torch.set_num_threads(threads)


def _dataset(job: VideoPass, videos: range, cluster: ClusterConfig) -> Dataset:
    dataset = fetched(videos, _fetch_video, {"job": job}, cluster)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # the only way to say it until Ray 2.64
        dataset = dataset.map_batches(
            _Networks,
            fn_constructor_kwargs={"job": job},
            batch_size=1,
            **motion_actors(cluster),
            # By default Ray would restart an actor with arguments that may be gone from the object store, and warns of
            # that in every run; the pass begins again itself.
            max_restarts=0,
        )
    return in_order(dataset)


def _fetch_video(batch: dict[str, NDArray], job: VideoPass) -> Iterator[dict[str, NDArray]]:
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


def _failed(index: int, reason: str, job: VideoPass) -> dict[str, NDArray]:
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

    def __init__(self, job: VideoPass) -> None:
        torch.set_num_threads(job.threads)
        self._job = job
        self._upload = Upload(job.device)
        self._computing = threading.Lock()
        loaded = {url: load_network(url) for url in network_urls(job.candidates)}
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
