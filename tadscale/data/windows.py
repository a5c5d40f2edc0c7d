"""Windows: fixed-length runs of sampled frames, which is what the network sees of a video."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from tadscale.config import Config
from tadscale.data.augment import NO_AUGMENT, Augment, AugmentDraw
from tadscale.data.compact import whole_number
from tadscale.data.container import Video, whole_bytes
from tadscale.data.crop import Crop
from tadscale.data.decode import TIME_SLACK_S, decode_frames
from tadscale.data.features import FeatureRows, cut_rows
from tadscale.data.fetching import WindowFetcher
from tadscale.data.manifest import Manifest, VideoRow
from tadscale.data.storage import read_range
from tadscale.errors import UserError

DIGESTED = 1 << 20  # windows at a time
BACKGROUND_SHARE = 0.25  # our choice


class WindowConfig(Config):
    """How videos are cut into windows. Frame `k` of a video is the picture on display at `k / fps` seconds.

    Of shards of features, a frame is a row of features. What a frame is, and at what time, is said here and nowhere else.
    """

    frames: PositiveInt = 128
    """Sampled frames in a window."""
    stride_frames: PositiveInt = 64
    """Sampled frames from one window's start to the next."""
    fps: PositiveFloat = 10.0
    """Sampled frames a second. Of features: their rows, so `video_fps / stride`."""
    height: PositiveInt = 112
    """Pixels; pictures are resized in the decoder."""
    width: PositiveInt = 112
    """Pixels."""
    min_visible: Annotated[float, Field(gt=0, le=1)] = 0.3
    """A segment counts in a window if at least this share of it is inside (of the window, if the segment is longer)."""
    augment: Augment = Augment()
    """Random crop, flip and shift in training."""
    sampling: Literal["tile", "segments"] = "tile"
    """What of a video is trained on: windows of all of it, or windows that hold its segments and a share of background, by
    the rule of `tadscale.data.segment_windows`. Videos without labels are tiled either way, and so are those that detections
    are made of."""
    background: Annotated[float, Field(ge=0, lt=1)] = BACKGROUND_SHARE
    """Under `sampling: segments`, the share of windows in which there is no segment."""
    resize: Literal["stretch", "crop"] = "stretch"
    """`stretch` makes pictures of any shape fit, and changes their shape. `crop` keeps it: a picture is scaled until it
    covers `height` x `width`, and what juts out is cut off on both sides alike; in training, where `augment` crops, what is
    kept lies anywhere."""
    features: FeatureRows | None = None
    """Frames are rows of features in place of pictures, as the shards' manifest describes them."""

    @model_validator(mode="after")
    def _features_have_a_rate_and_no_pictures(self) -> Self:
        if self.features is None:
            return self
        if abs(self.fps - self.features.fps) > 1e-6 * self.fps:
            raise ValueError(
                f"window.fps is {self.fps:g}, and features have {self.features.video_fps:g} / {self.features.stride} = "
                f"{self.features.fps!r} rows a second: set window.fps to that"
            )
        if self.augment.changes_pictures or self.resize == "crop":
            raise ValueError(
                "window.augment crops and flips pictures, window.resize=crop cuts them, and features are none: "
                "leave them out (window.augment.shift moves windows of features, too)"
            )
        return self

    @model_validator(mode="after")
    def _background_is_drawn_beside_segments(self) -> Self:
        if self.sampling == "tile" and self.background != BACKGROUND_SHARE:
            raise ValueError(
                f"window.background is {self.background:g}, and window.sampling=tile takes all windows, whatever is in "
                "them: leave it out, or set window.sampling=segments"
            )
        return self

    def fingerprint(self) -> str:
        """SHA-256 of all settings; of those that are younger than the first runs, only where they change something."""
        return hashlib.sha256(self.model_dump_json(exclude=self._without_effect).encode()).hexdigest()

    @property
    def _without_effect(self) -> dict[str, Any]:
        left_out: dict[str, Any] = {"features": True} if self.features is None else {}
        left_out |= {"resize": True} if self.resize == "stretch" else {}
        left_out |= {} if self.augment.shift else {"augment": {"shift"}}
        return left_out | ({"sampling": True, "background": True} if self.sampling == "tile" else {})

    def crop(self, draw: AugmentDraw = NO_AUGMENT) -> Crop | None:
        """What is cut out of pictures that keep their shape; None where they are stretched."""
        if self.resize == "stretch":
            return None
        if draw.crop_area == 1:
            return Crop()  # a draw that does not crop says nothing of where
        return Crop(draw.crop_area**-0.5, draw.crop_y, draw.crop_x)

    def tiled(self) -> "WindowConfig":
        """The same of windows that cover all of a video."""
        return self.model_copy(update={"sampling": "tile", "background": BACKGROUND_SHARE})

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of pictures, in pixels."""
        return self.height, self.width

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Of one frame: `(H, W, 3)`, or `(C,)` of a row of features."""
        return (*self.size, 3) if self.features is None else (self.features.channels,)

    def blank(self, frames: int) -> NDArray[Any]:
        """Frames that do not exist, zeros `[frames, *frame_shape]` of the type that frames have."""
        return np.zeros((frames, *self.frame_shape), np.uint8 if self.features is None else np.float32)

    def to_frames(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds of a video to its sampled frames, fractions included."""
        return times_s * self.fps if self.features is None else self.features.to_rows(times_s)

    def span_s(self, start_frames: int, valid_frames: int) -> tuple[float, float]:
        """The times of a window's first and last sampled frame, seconds."""
        first, last = self.to_seconds(np.array([start_frames, start_frames + valid_frames - 1], np.float64)).tolist()
        return first, last

    def to_seconds(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sampled frames of a video to its seconds."""
        return frames / self.fps if self.features is None else self.features.to_seconds(frames)


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowTable:
    """All windows of a manifest; a window's id is its index. Takes 15 bytes a window, whatever is right for its numbers.

    Attributes:
        video: `[W]` row of the manifest.
        start_frames: `[W]` first sampled frame.
        valid_frames: `[W]` sampled frames that exist; fewer than the window's length only in shorter videos.
        labelled: `[W]` bool, whether its segments are ground truth.
        source: `[W]` which of a run's sources it comes from.
    """

    video: NDArray[np.signedinteger[Any]]
    start_frames: NDArray[np.signedinteger[Any]]
    valid_frames: NDArray[np.signedinteger[Any]]
    labelled: NDArray[np.bool_]
    source: NDArray[np.signedinteger[Any]]

    def __len__(self) -> int:
        return len(self.video)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the columns as 64-bit numbers; the last two count only where there is more than one labelled source."""
        columns: list[NDArray[Any]] = [self.video, self.start_frames, self.valid_frames]
        if self.source.any() or not self.labelled.all():
            columns += [self.labelled, self.source]
        sha = hashlib.sha256()
        for column in columns:
            for first in range(0, len(column), DIGESTED):
                sha.update(column[first : first + DIGESTED].astype("<i8").tobytes())
        return sha.hexdigest()


class Timed(Protocol):
    """As much of a manifest as tiling asks for."""

    @property
    def duration_s(self) -> NDArray[np.float64]:
        """`[V]` lengths of the videos."""


class Window(NamedTuple):
    """One window with its ground truth."""

    frames: NDArray[Any]
    """`[T, H, W, 3]` uint8 RGB, or features `[T, C]` float32; zeros where the mask is False."""
    mask: NDArray[np.bool_]
    """`[T]`, which frames exist."""
    segments_frames: NDArray[np.float32]
    """`[N, 2]` start and end in sampled frames from the window's start, clipped to the window."""
    labels: NDArray[np.int64]
    """`[N]` indices into the manifest's classes."""


def video_frames(duration_s: NDArray[np.float64] | float, fps: float) -> NDArray[np.int64]:
    """Sampled frames of a video: how many of the times `k / fps` lie before its end; at least one."""
    return np.maximum(np.ceil(np.asarray(duration_s) * fps - 1e-6), 1).astype(np.int64)


def sampled_frames(videos: Timed, config: WindowConfig) -> NDArray[np.int64]:
    """`[V]` sampled frames of each video: as many as its length has room for, or as there are rows of its features.

    Raises:
        UserError: windows are of pictures and the shards of features, or the other way round, or of other features.
    """
    if not isinstance(videos, Manifest):
        return video_frames(videos.duration_s, config.fps)
    if videos.features != config.features:
        raise UserError(_other_content(videos, config))
    return video_frames(videos.duration_s, config.fps) if config.features is None else videos.column("frames")


def _other_content(videos: Manifest, config: WindowConfig) -> str:
    if videos.features is None:
        return (
            f"{videos.url} holds videos, and data.window.features is set: leave it out, or name shards of features "
            "(`tadscale data features` makes them)"
        )
    stated = "nothing" if config.features is None else repr(config.features)
    return (
        f"{videos.url} holds features, {videos.features!r}, and data.window.features says {stated}: set it to what the "
        f"shards hold, data.window.fps to {videos.features.fps!r}, and choose model.backbone.name=features"
    )


def tile(videos: Timed, config: WindowConfig) -> WindowTable:
    """Cut every video into windows such that each sampled frame is in at least one; all count as labelled, of one source.

    Windows start every `stride_frames`; the last one ends with the video, overlapping its neighbour more where need be.
    A video shorter than a window gives one window, padded at its end.

    Raises:
        UserError: `stride_frames` exceeds `frames`, or see `sampled_frames`.
    """
    if config.stride_frames > config.frames:
        raise UserError(
            f"window.stride_frames={config.stride_frames} exceeds window.frames={config.frames}: frames between two "
            "windows would never be seen; choose a stride of at most the window's length"
        )
    total = sampled_frames(videos, config)  # [V]
    overhang = np.maximum(total - config.frames, 0)  # [V], start of the last window
    counts = 1 + -(-overhang // config.stride_frames)  # [V]
    windows = int(counts.sum())
    largest = max(windows, int(total.max(initial=0)) + config.stride_frames)
    total, overhang, first = (
        some.astype(whole_number(largest)) for some in (total, overhang, np.cumsum(counts) - counts)
    )
    video = np.repeat(np.arange(len(total), dtype=total.dtype), counts)  # [W]
    nth = np.arange(windows, dtype=total.dtype) - first[video]  # [W], position within its video
    return WindowTable(
        video=video,
        start_frames=np.minimum(nth * total.dtype.type(config.stride_frames), overhang[video]),
        valid_frames=np.minimum(total, config.frames)[video],
        labelled=np.ones(windows, np.bool_),
        source=np.zeros(windows, np.int16),
    )


def drawn_start(row: VideoRow, start_frames: int, config: WindowConfig, draw: AugmentDraw) -> int:
    """First sampled frame of a window in training: its place in the table, shifted as drawn, within its video.

    The sampled frames that exist are as many as before: a window that is shorter than the others is all of its video.
    """
    total = int(video_frames(row.duration_s, config.fps)) if config.features is None else row.frames
    shifted = start_frames + round(draw.shift * config.stride_frames)
    return min(max(shifted, 0), max(total - config.frames, 0))


def read_video(row: VideoRow) -> bytes:
    """Fetch one video with a ranged read. Raises `DataError` if it is damaged, `StorageError` if it cannot be had."""
    return read_range(row.url, row.video_offset, row.video_bytes, row.video_sha256)


def load_window(
    row: VideoRow,
    start_frames: int,
    valid_frames: int,
    config: WindowConfig,
    draw: AugmentDraw = NO_AUGMENT,
    fetcher: WindowFetcher | None = None,
) -> Window:
    """Fetch what a window needs of its video, and cut it out.

    Args:
        row: the video.
        start_frames: first sampled frame.
        valid_frames: sampled frames that exist.
        config: how videos are cut.
        draw: the augmentation.
        fetcher: counts what was fetched, and knows the node's cache.

    Raises:
        DataError: the member is damaged or cannot be decoded; the slot should be masked and the key quarantined.
        StorageError: the storage cannot be reached or refuses.
    """
    with (fetcher or WindowFetcher()).open(row, *config.span_s(start_frames, valid_frames)) as video:
        return cut_window(video, row, start_frames, valid_frames, config, draw)


def cut_window(
    video: Video,
    row: VideoRow,
    start_frames: int,
    valid_frames: int,
    config: WindowConfig,
    draw: AugmentDraw = NO_AUGMENT,
) -> Window:
    """Cut a window out of a video (or its features) that has been fetched, or is meanwhile. Raises as `read_frames`."""
    frames = config.blank(config.frames)  # [T, H, W, 3] or [T, C]
    frames[:valid_frames] = read_frames(video, start_frames, valid_frames, config, draw)
    segments = config.to_frames(row.segments_s) - start_frames
    segments_frames, kept = clip_segments(segments, valid_frames, config.min_visible)
    return Window(frames, np.arange(config.frames) < valid_frames, segments_frames, row.label_ids[kept])


def read_frames(
    video: Video, first: int, count: int, config: WindowConfig, draw: AugmentDraw = NO_AUGMENT
) -> NDArray[Any]:
    """Sampled frames of a video or its features that has been fetched: `[count, *frame_shape]`.

    Raises:
        UndecodableVideo: the pictures cannot be had.
        UnreadableFeatures: the rows cannot be had.
    """
    if config.features is not None:
        return cut_rows(whole_bytes(video), first, count, config.features.channels)
    return decode_view(video, np.arange(first, first + count) / config.fps, config, draw)


def verify_windows(video: bytes, duration_s: float, config: WindowConfig | None = None) -> None:
    """Read a video window by window, as training does, and at its very end: windows seek, and go as far as its length.

    Args:
        video: the encoded file.
        duration_s: its length, as the manifest has it.
        config: how training samples. Any rate's last frame lies before the very end, so the default answers for all.

    Raises:
        UndecodableVideo: a window cannot be had.
    """
    config = config or WindowConfig()
    total = int(video_frames(duration_s, config.fps))
    for first in range(0, total, config.frames):
        times_s = np.arange(first, min(first + config.frames, total)) / config.fps  # [T]
        decode_frames(video, times_s, (config.height, config.width))
    decode_frames(video, np.array([max(duration_s - TIME_SLACK_S, 0.0)]), (config.height, config.width))


def clip_segments(
    segments_frames: NDArray[np.float64], valid_frames: int, min_visible: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Clip segments `[N, 2]`, relative to a window's start, to the window.

    A sliver of an action is no example of it: a segment is dropped when less than `min_visible` of it is inside. An
    action longer than the window is measured against the window instead, or windows full of it would count as
    background (our choice).

    Returns:
        The kept segments `[M, 2]`, and which of the N they are, `[N]`.
    """
    clipped = segments_frames.clip(0, valid_frames)  # [N, 2]
    visible = clipped[:, 1] - clipped[:, 0]
    whole = np.minimum(segments_frames[:, 1] - segments_frames[:, 0], valid_frames)
    kept = (visible > 0) & (visible >= min_visible * whole)
    return clipped[kept].astype(np.float32), kept


def decode_view(
    video: Video, times_s: NDArray[np.float64], config: WindowConfig, draw: AugmentDraw
) -> NDArray[np.uint8]:
    """The pictures at some times, cropped, flipped and resized: `[T, H, W, 3]`. Raises `UndecodableVideo`."""
    # The crop is cut from pictures that the decoder scales up by as much as the crop shrinks: one resampling, not two.
    crop = config.crop(draw)
    frames = (
        _stretched(video, times_s, config, draw) if crop is None else decode_frames(video, times_s, config.size, crop)
    )
    return frames[:, :, ::-1] if draw.flip else frames


def _stretched(
    video: Video, times_s: NDArray[np.float64], config: WindowConfig, draw: AugmentDraw
) -> NDArray[np.uint8]:
    scale = draw.crop_area**-0.5
    height, width = round(config.height * scale), round(config.width * scale)
    y, x = round(draw.crop_y * (height - config.height)), round(draw.crop_x * (width - config.width))
    frames = decode_frames(video, times_s, (height, width))  # [valid, H', W', 3]
    return frames[:, y : y + config.height, x : x + config.width]
