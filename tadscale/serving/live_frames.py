"""Sampled frames of a stream as they arrive: a camera, a pipe, an RTSP address, or a file read as if it were one.

A file is refused at its first damage (`tadscale.data.decode`), for it can be mended and read again. A stream cannot: what
was lost on its way is passed over, the picture before it stands meanwhile, and the clock goes on.
"""

import io
import re
import select
from collections.abc import Iterator
from itertools import repeat
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from tadscale.data.decode import TIME_SLACK_S, UndecodableVideo
from tadscale.data.upright import pixel_aspect, upright_rgb
from tadscale.data.windows import WindowConfig
from tadscale.serving.download import UnavailableVideo

SILENCE_S = 10.0  # until a stream that sends nothing, or does not begin, counts as gone
MAX_GAP_S = 10.0  # a clock that jumps farther, or back, was set: time goes on as if it had not
MAX_BAD_PACKETS = 250  # in a row, ten seconds of most cameras


def live_frames(source: str | BinaryIO, config: WindowConfig) -> Iterator[NDArray[np.uint8]]:
    """Frame `k` is the picture on display at `k / config.fps` seconds after the first, given when the next one has come.

    Args:
        source: what FFmpeg opens, such as `rtsp://HOST/STREAM`, `/dev/video0`, `clip.mp4`; or a pipe, read forward only (of
            a format that can be: MPEG-TS, Matroska, not MP4).
        config: rate and size of the frames.

    Yields:
        `[H, W, 3]` RGB.

    Raises:
        UnavailableVideo: the source cannot be opened, holds no video, or has been silent for 10 s.
        UndecodableVideo: nothing that arrives can be decoded, or pictures are too narrow to be cropped.
    """
    name, scaler, sampler = _name(source), VideoReformatter(), _Sampler(config.fps)
    picture: NDArray[np.uint8] | None = None
    frame = None
    for frame, time_s, aspect in _pictures(source, name):
        due = sampler.due(time_s)
        if picture is not None:
            yield from repeat(picture, due)
        # One conversion a decoded picture, though not each is sampled: 0.1 ms at 112x112.
        picture = upright_rgb(scaler, frame, config.size, config.crop(), aspect)
    if picture is None or frame is None:
        raise UnavailableVideo(f"{name} ends before its first picture")
    yield from repeat(picture, sampler.due_at_end(_lasts_s(frame)))


class _Sampler:
    """How many samples the picture on display has to stand in for until the next one comes."""

    def __init__(self, fps: float) -> None:
        self._fps, self._taken, self._origin_s, self._last_s = fps, 0, 0.0, -1.0

    def due(self, stamp_s: float) -> int:
        """Samples of the picture before the one that comes at a time of the stream's clock."""
        if self._last_s < 0:
            self._origin_s, self._last_s = stamp_s, 0.0
            return 0
        time_s = stamp_s - self._origin_s
        if not 0 <= time_s - self._last_s <= MAX_GAP_S:
            time_s = self._last_s + 1 / self._fps
            self._origin_s = stamp_s - time_s
        self._last_s = time_s
        return self._take(time_s)

    def due_at_end(self, lasts_s: float) -> int:
        """Samples of the last picture."""
        return self._take(self._last_s + lasts_s)

    def _take(self, end_s: float) -> int:
        upto = max(int(np.ceil((end_s - TIME_SLACK_S) * self._fps)), self._taken)
        count, self._taken = upto - self._taken, upto
        return count


def _pictures(source: str | BinaryIO, name: str) -> Iterator[tuple[Any, float, float]]:
    """Decoded pictures with their times on the stream's own clock and their pixels' shape, what is damaged left out."""
    try:
        with _opened(source) as container:
            if not container.streams.video:
                raise UnavailableVideo(f"{name} holds no video")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # threads over frames would each hold one back
            bad = 0
            for packet in container.demux(stream):
                try:
                    frames = [frame for frame in packet.decode() if not frame.is_corrupt and frame.time is not None]
                except av.error.InvalidDataError:
                    frames, bad = [], bad + 1
                    if bad > MAX_BAD_PACKETS:
                        raise UndecodableVideo(f"{name}: nothing that arrives can be decoded") from None
                for frame in frames:
                    bad = 0
                    yield frame, frame.time, pixel_aspect(stream)
    except av.error.ExitError as error:
        raise UnavailableVideo(f"{name} has been silent for {SILENCE_S:g} s") from error
    except av.error.FFmpegError as error:
        raise UnavailableVideo(f"{name} cannot be read: {error}") from error


def _opened(source: str | BinaryIO) -> Any:
    if not isinstance(source, str):
        return av.open(_Forward(source), timeout=SILENCE_S)
    camera = re.fullmatch(r"/dev/video\d+", source) is not None
    options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}  # over UDP, lost packets are lost pictures
    return av.open(source, format="v4l2" if camera else None, options=options, timeout=SILENCE_S)


class _Forward:
    """A pipe: it has no `seek`, and gives what has come, without waiting until a whole block is full.

    FFmpeg's own timeout does not end a read that Python waits in.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe, self._waits_on = pipe, _descriptor(pipe)

    def read(self, size: int) -> bytes:
        # `read1` keeps nothing back that it has read: what has come is in the pipe, and not in a buffer before it.
        if self._waits_on and not select.select(self._waits_on, [], [], SILENCE_S)[0]:
            raise UnavailableVideo(f"{_name(self._pipe)} has been silent for {SILENCE_S:g} s")
        return self._pipe.read1(size)


def _descriptor(pipe: Any) -> list[int]:
    """What to wait on; nothing where bytes in memory stand for a pipe."""
    try:
        return [pipe.fileno()]
    except (AttributeError, io.UnsupportedOperation):
        return []


def _name(source: str | BinaryIO) -> str:
    return source if isinstance(source, str) else "the pipe"


def _lasts_s(frame: Any) -> float:
    return float(frame.duration * frame.time_base) if frame.duration else 0.0
