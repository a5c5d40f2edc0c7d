"""Windows of motion that was computed before: shards of flow pictures, under the keys of the videos that they belong to."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tadscale.data.augment import NO_AUGMENT, AugmentDraw
from tadscale.data.decode import UndecodableVideo
from tadscale.data.manifest import Manifest, VideoRow, read_manifest
from tadscale.data.quarantine import DataError, QuarantineBudget
from tadscale.data.windows import WindowConfig, decode_view, read_video
from tadscale.errors import UserError
from tadscale.flow.codes import ZERO, changed_view

FPS_SLACK = 1e-3  # relative: 29.97 is stored as 30000/1001


@lru_cache(maxsize=2)
def open_flow(url: str) -> dict[str, VideoRow]:
    """The flow videos of a folder of shards by key. Raises what `read_manifest` raises."""
    return {row.key: row for row in read_manifest(url).rows}


def check_flow(url: str, videos: Manifest, window: WindowConfig, budget: QuarantineBudget) -> None:
    """Refuse flow that does not belong to these videos and windows, before anything is started.

    Raises:
        UserError: more videos lack their flow than may be bad, or the flow is of another frame rate or shape than the
            windows.
        StorageError: the storage cannot be reached.
    """
    open_flow.cache_clear()  # it may have been written anew since
    flow = open_flow(url)
    missing = [row.key for row in videos.rows if row.key not in flow]
    if len(missing) > budget.allowed(len(videos)):
        raise UserError(
            f"{url} lacks the flow of {len(missing)} of the {len(videos)} videos of {videos.url}, such as {missing[0]!r}: "
            f"keys must be alike (there is {next(iter(flow))!r}); `tadscale data flow` makes such shards"
        )
    for row in (flow[row.key] for row in videos.rows if row.key in flow):
        if row.width * window.height != row.height * window.width:
            raise UserError(
                f"{row.url}: the flow of {row.key!r} is {row.width} x {row.height} and windows are {window.width} x "
                f"{window.height} (width x height): stretched, its u and v would no longer fit each other; compute it at "
                "data.window's size"
            )
        if abs(row.fps - window.fps) > FPS_SLACK * window.fps:
            raise UserError(
                f"{row.url}: the flow of {row.key!r} has {row.fps:g} frames a second, and windows are sampled at "
                f"{window.fps:g}: flow is a displacement a frame; compute it at data.window.fps"
            )


def read_flow(url: str, key: str) -> bytes:
    """Fetch the flow of a video. Raises `DataError` if it has none or it is damaged, `StorageError` if it cannot be had."""
    row = open_flow(url).get(key)
    if row is None:
        raise DataError(f"no flow of this key in {url}")
    return read_video(row)


def load_flow(
    url: str, key: str, start_frames: int, valid_frames: int, config: WindowConfig, draw: AugmentDraw = NO_AUGMENT
) -> NDArray[np.uint8]:
    """The flow pictures of a window `[T, H, W, 3]`, augmented as its frames are; zero motion where the mask is False.

    Raises:
        DataError: there is no flow of that key, or it is damaged or ends before the video.
        StorageError: the storage cannot be reached or refuses.
    """
    return cut_flow(read_flow(url, key), start_frames, valid_frames, config, draw)


def cut_flow(
    video: bytes, start_frames: int, valid_frames: int, config: WindowConfig, draw: AugmentDraw = NO_AUGMENT
) -> NDArray[np.uint8]:
    """Cut a window out of flow pictures that have been fetched. Raises `UndecodableVideo`."""
    times_s = np.arange(start_frames, start_frames + valid_frames) / config.fps  # [valid]
    pictures = np.full((config.frames, config.height, config.width, 3), ZERO, np.uint8)  # [T, H, W, 3]
    try:
        view = decode_view(video, times_s, config, draw)
    except UndecodableVideo as error:
        raise UndecodableVideo(f"its flow: {error.reason}") from error
    if draw != NO_AUGMENT:
        view = changed_view(view, zoom=draw.crop_area**-0.5, flip=draw.flip)
    pictures[:valid_frames] = view
    return pictures
