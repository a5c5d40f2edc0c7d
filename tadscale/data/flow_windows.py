"""Windows of motion that was computed before, under the keys of the videos that it belongs to: flow pictures in shards of
their own, or flow features beside the RGB features."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadscale.data.augment import NO_AUGMENT, AugmentDraw
from tadscale.data.container import UndecodableVideo, Video, whole_bytes
from tadscale.data.features import UnreadableFeatures, cut_rows
from tadscale.data.fetching import WindowFetcher
from tadscale.data.manifest import Manifest, VideoRow, read_manifest
from tadscale.data.noted_motion import check_same_pictures
from tadscale.data.quarantine import DataError, QuarantineBudget
from tadscale.data.windows import WindowConfig, decode_view, read_video
from tadscale.errors import UserError
from tadscale.flow.codes import ZERO, changed_view

FPS_SLACK = 1e-3  # relative: 29.97 is stored as 30000/1001


@lru_cache(maxsize=2)
def open_flow(url: str) -> dict[str, VideoRow]:
    """The flow of a folder of shards by key, as rows that `read_video` reads. Raises what `read_manifest` raises."""
    manifest = read_manifest(url)
    rows = manifest.facts() if manifest.features is None else _flow_features(manifest)
    return {row.key: row for row in rows}


def _flow_features(manifest: Manifest) -> Iterator[VideoRow]:
    for row in manifest.facts():
        if row.flow_bytes:
            yield row._replace(
                video_offset=row.flow_offset,
                video_bytes=row.flow_bytes,
                video_sha256=row.flow_sha256,
                width=manifest.flow_channels,
                layout=b"",
            )


def check_flow(
    url: str, videos: Manifest, window: WindowConfig, budget: QuarantineBudget, channels: int | None = None
) -> None:
    """Refuse flow that does not belong to these videos and windows, before anything is started.

    Args:
        url: shards of flow pictures or of features.
        videos: whose flow is needed.
        window: how they are cut.
        budget: how many may lack their flow.
        channels: that flow features must have.

    Raises:
        UserError: more videos lack their flow than may be bad, or the flow is of another frame rate, shape or number of
            channels than the windows, or of other pictures (see `check_same_pictures`).
        StorageError: the storage cannot be reached.
    """
    open_flow.cache_clear()  # it may have been written anew since
    flow = open_flow(url)
    missing = [key for key in videos.column("key").tolist() if key not in flow]
    if len(missing) > budget.allowed(len(videos)):
        raise UserError(
            f"{url} lacks the flow of {len(missing)} of the {len(videos)} videos of {videos.url}, such as {missing[0]!r}: "
            f"keys must be alike ({f'there is {next(iter(flow))!r}' if flow else 'there is none at all'}); `tadscale data "
            f"{'flow' if window.features is None else 'features'}` makes such shards"
        )
    if window.features is not None:
        _check_features(url, window, channels)
        return
    check_same_pictures(url, window)
    for row in (flow[key] for key in videos.column("key").tolist() if key in flow):
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


def _check_features(url: str, window: WindowConfig, channels: int | None) -> None:
    manifest = read_manifest(url)
    if manifest.features != window.features:
        raise UserError(
            f"motion.flow_url: {url} holds {manifest.features or 'no features'}, and windows are {window.features}: flow "
            "features lie beside the RGB features, in the same shards; name those"
        )
    if channels is not None and channels != manifest.flow_channels:
        raise UserError(
            f"motion.feature_channels is {channels}, and the flow features of {url} have {manifest.flow_channels} channels: "
            "set it to that"
        )


def read_flow(url: str, key: str) -> bytes:
    """Fetch the flow of a video. Raises `DataError` if it has none or it is damaged, `StorageError` if it cannot be had."""
    return read_video(_flow_row(url, key))


def _flow_row(url: str, key: str) -> VideoRow:
    row = open_flow(url).get(key)
    if row is None:
        raise DataError(f"no flow of this key in {url}")
    return row


def load_flow(
    url: str,
    key: str,
    start_frames: int,
    valid_frames: int,
    config: WindowConfig,
    draw: AugmentDraw = NO_AUGMENT,
    fetcher: WindowFetcher | None = None,
) -> NDArray[Any]:
    """The flow of a window, augmented as its frames are; zero motion where the mask is False. Fetched as `load_window` does.

    Returns:
        Pictures `[T, H, W, 3]` uint8, or features `[T, C]` float32.

    Raises:
        DataError: there is no flow of that key, or it is damaged or ends before the video.
        StorageError: the storage cannot be reached or refuses.
    """
    span_s = config.span_s(start_frames, valid_frames)
    with (fetcher or WindowFetcher()).open(_flow_row(url, key), *span_s) as video:
        return cut_flow(video, start_frames, valid_frames, config, draw)


def blank_flow(url: str, config: WindowConfig, frames: int) -> NDArray[Any]:
    """What stands for the flow of a window that cannot be had: zeros of its shape and type. Raises as `open_flow`."""
    if config.features is None:
        return config.blank(frames)
    channels = next((row.width for row in open_flow(url).values()), config.features.channels)
    return np.zeros((frames, channels), np.float32)


def cut_flow(
    video: Video, start_frames: int, valid_frames: int, config: WindowConfig, draw: AugmentDraw = NO_AUGMENT
) -> NDArray[Any]:
    """Cut a window out of flow that has been fetched. Raises `UndecodableVideo`, `UnreadableFeatures`.

    Pictures are asked for in the middle of their time: at its edge a rate that was rounded, however finely, decides at some
    time for the one before.
    """
    if config.features is not None:
        return _cut_features(whole_bytes(video), start_frames, valid_frames, config.frames)
    times_s = np.arange(start_frames + 0.5, start_frames + valid_frames) / config.fps  # [valid]
    pictures = np.full((config.frames, config.height, config.width, 3), ZERO, np.uint8)  # [T, H, W, 3]
    try:
        view = decode_view(video, times_s, config, draw)
    except UndecodableVideo as error:
        raise UndecodableVideo(f"its flow: {error.reason}") from error
    if draw != NO_AUGMENT:
        view = changed_view(view, zoom=draw.crop_area**-0.5, flip=draw.flip)
    pictures[:valid_frames] = view
    return pictures


def _cut_features(data: bytes, start_frames: int, valid_frames: int, length: int) -> NDArray[np.float32]:
    try:
        rows = cut_rows(data, start_frames, valid_frames)
    except UnreadableFeatures as error:
        raise UnreadableFeatures(f"its flow: {error.reason}") from error
    return np.pad(rows, ((0, length - valid_frames), (0, 0)))
