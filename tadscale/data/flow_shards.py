"""Motion computed ahead of training: shards of flow pictures, under the keys of the videos that they belong to."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from tadscale.data.decode import stream_frames
from tadscale.data.encode import encode_lossless
from tadscale.data.feature_files import annotation_of
from tadscale.data.manifest import Manifest
from tadscale.data.motion_identity import note_motion
from tadscale.data.quarantine import DataError, QuarantineEntry, QuarantineLedger
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.storage import same_place
from tadscale.data.watched import Watch, unwatched, watched
from tadscale.data.windows import WindowConfig, read_video, video_frames
from tadscale.errors import UserError
from tadscale.flow.codes import motion_pictures
from tadscale.flow.motion import Motion

CHUNK_FRAMES = 128  # decoded and in memory at a time: 19 MB of a video at 224 px


def write_flow(
    videos: Manifest,
    url: str,
    motion: Motion,
    window: WindowConfig,
    *,
    device: str,
    ledger: QuarantineLedger,
    overwrite: bool = False,
    watch: Watch = unwatched,
) -> Manifest:
    """Compute the flow of all videos, at the windows' frame rate and size, and write it as shards that `load_flow` reads.

    A window that is cut out of them differs from one whose flow is computed on the fly by rounding (half of clip_px / 127)
    and at its end: on the fly the last field is the one before it once more; here it is the true one, except at the end of
    the video.

    Args:
        videos: whose flow.
        url: a folder or prefix for the shards.
        motion: two channels.
        window: frame rate and size.
        device: where flow is computed.
        ledger: takes videos that cannot be decoded: they have no flow then, and are quarantined again in training.
        overwrite: replace shards that are already there.
        watch: told after each video how many are done.

    Raises:
        UserError: the motion is no flow, or the folder holds shards, or is that of the videos.
        QuarantineExceeded: more videos are bad than the ledger's budget allows.
        StorageError: the storage cannot be reached or refuses.
    """
    if any(same_place(url, folder) for folder in _folders(videos)):
        raise UserError(
            f"{url} is where the videos lie: the shards of flow have the same names and would take their place; choose "
            "another folder"
        )
    if motion.channels != 2:
        raise UserError(
            "only flow is kept as pictures (two channels, u and v): a temporal gradient costs less to compute than to "
            "read; set motion.name to tvl1, dis or raft"
        )
    samples = _samples(videos, motion, window, device, ledger, watch)
    written = write_shards(samples, url, classes=videos.classes, ledger=ledger, overwrite=overwrite)
    note_motion(url, motion, window)
    return written


def _folders(videos: Manifest) -> set[str]:
    """Where the videos lie, and their manifest."""
    return {videos.url, *(shard.rpartition("/")[0] for shard in set(videos.column("url").tolist()))}


def flow_of_video(
    video: bytes, duration_s: float, motion: Motion, window: WindowConfig, device: str
) -> Iterator[NDArray[np.uint8]]:
    """The flow pictures `[H, W, 3]` of a video, one for each sampled frame. Raises `UndecodableVideo`."""
    total = int(video_frames(duration_s, window.fps))
    pictures = stream_frames(video, np.arange(total) / window.fps, window.size, window.crop())
    held: list[NDArray[np.uint8]] = []
    at = 0  # which frame is the first of those held
    for first in range(0, total, CHUNK_FRAMES):
        upto = min(first + CHUNK_FRAMES + 1, total)  # one more: flow leads to the next frame
        start = min(first, upto - 2) if total > 1 else first  # two at least: a pair
        held, at = [*held[start - at :], *itertools.islice(pictures, upto - at - len(held))], start
        frames = torch.from_numpy(np.stack(held))  # [n, H, W, 3]
        if len(frames) == 1:
            frames = frames.expand(2, -1, -1, -1)
        with torch.inference_mode():
            fields = motion(frames[None].contiguous().to(device))[0].cpu().numpy()  # [2, n, H, W]
        yield from motion_pictures(fields[:, first - start : min(first + CHUNK_FRAMES, total) - start])


def _samples(
    videos: Manifest, motion: Motion, window: WindowConfig, device: str, ledger: QuarantineLedger, watch: Watch
) -> Iterator[VideoSample]:
    for row in watched(videos.rows, watch):
        try:
            video = read_video(row)
            pictures = flow_of_video(video, row.duration_s, motion, window, device)
            encoded = encode_lossless(pictures, window.height, window.width, window.fps)
        except DataError as error:
            ledger.add(QuarantineEntry(row.shard, row.key, error.reason, "flow"))
        else:
            yield VideoSample(row.key, encoded, annotation_of(row))
