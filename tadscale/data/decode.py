"""Pictures of an encoded video at given times, decoded by PyAV (FFmpeg), one thread a decoder.

The rules, each of which some reader gets wrong: sample by time and never by frame number (variable frame rates);
subtract the stream's start; apply rotation and mirror; skip cover pictures; the size may change in mid-stream; never
trust the container's frame count; and at the first bad packet keep what came before and stop, since most pictures that a
decoder "recovers" behind one are wrong without saying so.
"""

import math
from collections import deque
from collections.abc import Iterator
from itertools import pairwise, repeat
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from tadscale.data.container import (
    MAX_PIXELS,
    UndecodableVideo,
    Video,
    open_container,
    read_packets,
    seconds_of,
    times_of_display,
    undecodable,
)
from tadscale.data.crop import Crop
from tadscale.data.upright import pixel_aspect, upright_rgb, upright_shape

TIME_SLACK_S = 1e-3  # Matroska rounds times to 1 ms; a picture that starts this much late counts as on time
MAX_DURATION_S = 48 * 3600.0  # a forged time of display must not ask for a billion windows
HOLD_S = 0.5  # the last picture stands in for the tail that a container declares but does not hold
STILL_S = (
    2.0  # our choice: cameras slow down to 5 pictures a second in the dark, and nothing films at one in two seconds
)
NO_PICTURE = "zero length: the video stream holds no picture"


class VideoInfo(NamedTuple):
    """What a file holds, counted from its packets, not read from its header (but for the last)."""

    duration_s: float
    fps: float
    """Average pictures a second."""
    frames: int
    width: int
    """As displayed: after rotation."""
    height: int
    promised_s: float = 0.0
    """How long the header says that it lasts, sound included; 0 where it says nothing. A file cut short has less."""


class _Picture(NamedTuple):
    time_s: float
    end_s: float
    frame: Any


def probe_video(video: Video) -> VideoInfo:
    """Duration, rate and size of a video. Reads all packets, decodes the first picture only.

    Raises:
        UndecodableVideo: no container of the allow-list, no video stream, no picture, or no duration.
    """
    with open_container(video) as (container, stream):
        promised_s = (container.duration or 0) / av.time_base
        times_s, duration_s = _display_times(container, stream)
    frames = len(times_s)
    if not frames or duration_s <= 0:
        raise UndecodableVideo(NO_PICTURE)
    if duration_s > MAX_DURATION_S:
        raise UndecodableVideo(f"lasts {duration_s:.3g} s by its times of display: damaged, or to be cut into parts")
    with open_container(video) as (container, stream):
        height, width = upright_shape(next(_on_display(_pictures(container, stream)))[0].frame)
    return VideoInfo(duration_s, frames / duration_s, frames, round(width), round(height), promised_s)


def displayed_shape(video: Video) -> tuple[float, float]:
    """Height and width of a video's first picture as displayed, see `upright_shape`. Raises `UndecodableVideo`."""
    with open_container(video) as (container, stream):
        return upright_shape(next(_on_display(_pictures(container, stream)))[0].frame, pixel_aspect(stream))


def still_spans(video: Video) -> list[tuple[float, float]]:
    """Where one picture stands for longer than `STILL_S`: its time and that of the next, in seconds.

    A recording that stalled, or a slide show: the file does not say which. Raises `UndecodableVideo`.
    """
    with open_container(video) as (container, stream):
        times_s, _ = _display_times(container, stream)
    return [(time_s, next_s) for time_s, next_s in pairwise(times_s) if next_s - time_s > STILL_S]


def verify_video(video: Video) -> None:
    """Decode every picture of a video. Raises `UndecodableVideo` at the first one that is damaged."""
    with open_container(video) as (container, stream):
        for _ in _on_display(_pictures(container, stream)):
            pass


def decode_frames(
    video: Video, times_s: NDArray[np.floating], size: tuple[int, int], crop: Crop | None = None
) -> NDArray[np.uint8]:
    """The pictures that are on display at the given times.

    Args:
        video: the encoded file, whole or fetched as it is read.
        times_s: `[T]` seconds from the start of the video stream, not decreasing.
        size: `(height, width)` in pixels; the decoder's scaler resizes, without keeping the aspect ratio.
        crop: keep the aspect ratio, and cut this.

    Returns:
        `[T, H, W, 3]` RGB.

    Raises:
        UndecodableVideo: a picture cannot be had, because the file is bad before it or ends before it.
    """
    times = np.asarray(times_s, np.float64)  # [T]
    assert times.ndim == 1 and len(times) and np.isfinite(times).all() and (np.diff(times) >= 0).all()
    if times[0] > 0:
        try:
            return _sample(video, times, size, crop, seek=True)
        except UndecodableVideo:
            pass  # an index may lie, and pictures behind an open group lack their references: the start is always right
    return _sample(video, times, size, crop, seek=False)


def stream_frames(
    video: Video, times_s: NDArray[np.floating], size: tuple[int, int], crop: Crop | None = None
) -> Iterator[NDArray[np.uint8]]:
    """The pictures of `decode_frames`, one `[H, W, 3]` after the other: each is decoded once, and none is kept.

    Raises:
        UndecodableVideo: as `decode_frames`, when it comes to the picture that cannot be had.
    """
    for picture, count in _displayed(video, np.asarray(times_s, np.float64), size, crop, seek=False):
        yield from repeat(picture, count)


def _sample(
    video: Video, times_s: NDArray[np.float64], size: tuple[int, int], crop: Crop | None, *, seek: bool
) -> NDArray[np.uint8]:
    frames, done = np.empty((len(times_s), *size, 3), np.uint8), 0  # [T, H, W, 3]
    for picture, count in _displayed(video, times_s, size, crop, seek=seek):
        frames[done : done + count] = picture
        done += count
    return frames


def _displayed(
    video: Video, times_s: NDArray[np.float64], size: tuple[int, int], crop: Crop | None, *, seek: bool
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Each picture `[H, W, 3]` that is on display at one of the times or more, and at how many."""
    scaler, done, end_s = VideoReformatter(), 0, 0.0
    with open_container(video) as (container, stream):
        if seek:
            ticks = (stream.start_time or 0) + math.floor(times_s[0] / stream.time_base)
            container.seek(ticks, stream=stream)  # the key frame at or before
        for picture, end_s in _on_display(_pictures(container, stream, sought=seek)):
            if seek and not done and picture.time_s > times_s[0] + TIME_SLACK_S:
                raise UndecodableVideo(f"seeking to {times_s[0]:.3f} s led to {picture.time_s:.3f} s")
            upto = int(np.searchsorted(times_s, end_s - TIME_SLACK_S))
            if upto > done:
                yield upright_rgb(scaler, picture.frame, size, crop, pixel_aspect(stream)), upto - done
                done = upto
            if done == len(times_s):
                return
    raise UndecodableVideo(f"no picture at {times_s[done]:.3f} s: the last one ends at {end_s:.3f} s")


def _on_display(pictures: Iterator[_Picture]) -> Iterator[tuple[_Picture, float]]:
    """Each picture with the moment at which it goes: when the next comes, or, the last one, a while after its end."""
    shown = None
    try:
        for picture in pictures:
            if shown is not None:
                yield shown, picture.time_s
            shown = picture
    except UndecodableVideo:
        if shown is not None:
            yield shown, shown.end_s
        raise
    if shown is None:
        raise UndecodableVideo(NO_PICTURE)
    yield shown, shown.end_s + HOLD_S


def _pictures(container: Any, stream: Any, *, sought: bool = False) -> Iterator[_Picture]:
    """Pictures in the order of display until the end, or until `UndecodableVideo` at the first sign of damage.

    With FFmpeg's defaults a decoder flags the pictures that it had to conceal: stopping there left 93 wrong pictures of
    2,007 delivered (60 clips of 100 pictures, 3 flipped bits each), reading on gave 1,509 of 5,898.

    AVI stores no times of display, and what FFmpeg and PyAV make up for it is wrong for B-frames. There, and wherever else
    they are missing, picture `n` gets the decoding time of packet `n`, counted from the start of the file.
    """
    last_s, time_s = 0.0, None
    waiting: deque[int] = deque()  # decoding times of packets whose pictures have not come out yet
    order = _Order()
    for packet in read_packets(container, stream):
        order.see(packet)
        if packet.size and not times_of_display(container, packet):
            if sought:
                raise UndecodableVideo("no times of display to seek by")
            waiting.append(packet.dts)
        try:
            decoded = packet.decode()
        except av.error.FFmpegError as error:
            raise undecodable(error, f"damaged behind {last_s:.3f} s") from error
        for frame in decoded:
            if frame.is_corrupt or frame.width * frame.height > MAX_PIXELS:
                raise UndecodableVideo(f"damaged behind {last_s:.3f} s: the decoder could not restore the picture")
            before_s, time_s = time_s, seconds_of(stream, waiting.popleft() if waiting else frame.pts)
            last_s = order.end_s(time_s, _lasts_s(stream, frame.duration), before_s)
            yield _Picture(time_s, last_s, frame)


class _Order:
    """Whether packets come in another order than their pictures: with B-frames they do.

    MP4 says of a packet how long it is until the next one is decoded, and with B-frames that is no time of display: around a
    stall of 3 s one of them "lasts" 3.1 s, and need not be the one that stands still.
    """

    def __init__(self) -> None:
        self._newest = -math.inf
        self._mixed = False

    def see(self, packet: Any) -> None:
        """Take in the next packet."""
        if packet.size and packet.pts is not None:
            self._mixed |= packet.pts < self._newest
            self._newest = max(self._newest, packet.pts)

    def end_s(self, time_s: float, lasts_s: float, before_s: float | None) -> float:
        """When a picture ends that nothing follows: after its packet's duration; with B-frames, no later than the picture
        before it (shown at `before_s`) would have."""
        if self._mixed and before_s is not None and lasts_s > time_s - before_s + TIME_SLACK_S:
            lasts_s = time_s - before_s
        return time_s + lasts_s


def _display_times(container: Any, stream: Any) -> tuple[list[float], float]:
    """The times at which pictures are shown, in order, and when the last of them ends; seconds."""
    shown, order = [], _Order()
    for packet in read_packets(container, stream):
        if packet.size and not packet.is_discard:
            order.see(packet)
            stamp = packet.pts if times_of_display(container, packet) else packet.dts
            shown.append((seconds_of(stream, stamp), _lasts_s(stream, packet.duration)))
    shown.sort()
    times_s = [time_s for time_s, _ in shown]
    return times_s, order.end_s(*shown[-1], times_s[-2] if len(shown) > 1 else None) if shown else 0.0


def _lasts_s(stream: Any, ticks: int | None) -> float:
    if ticks:
        return float(ticks * stream.time_base)
    return float(1 / stream.average_rate) if stream.average_rate else 0.0
