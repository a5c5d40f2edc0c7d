"""Containers as PyAV (FFmpeg) opens them: which are allowed, which stream is the video, and what counts as damage."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
from av.stream import Disposition

from tadscale.data.quarantine import DataError
from tadscale.data.stored import EncodedVideo, open_video

# A playlist makes FFmpeg open the files that it names (a concat script did, in the working directory): containers only.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv"
MAX_PIXELS = 8192 * 4320  # a picture; a forged header must not take all memory

Video = EncodedVideo | io.RawIOBase | io.BufferedIOBase
"""An encoded file: its bytes, the file on disk, or a seekable file of them, which may fetch them as they are asked for."""


class UndecodableVideo(DataError):
    """The file, or the part of it that was asked for, holds no trustworthy picture."""


def whole_bytes(video: Video) -> bytes:
    """All bytes of a file, for what is no container."""
    return video if isinstance(video, bytes) else video.read()


@contextmanager
def open_container(video: Video) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream: FFmpeg's choice among several, never a cover picture.

    Raises:
        UndecodableVideo: no container of the allow-list, no video stream, or damage that shows later on.
    """
    file = open_video(video) if isinstance(video, EncodedVideo) else video
    file.seek(0)
    try:
        container = av.open(file, options={"format_whitelist": CONTAINERS}, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise undecodable(error, f"not a readable container of {CONTAINERS}") from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise UndecodableVideo("no video stream: audio only, or only a cover picture")
        best = container.streams.best("video")
        stream = best if best in streams else streams[0]
        if stream.codec_context is None:
            raise UndecodableVideo("no decoder for the video stream: convert the file to H.264")
        stream.codec_context.thread_count = 1  # parallel over videos, not inside one
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        try:
            yield container, stream
        except av.error.FFmpegError as error:  # of seeking and scaling
            raise undecodable(error, "damaged") from error


def read_packets(container: Any, stream: Any) -> Iterator[Any]:
    """The stream's packets, in the order of the file. Raises `UndecodableVideo` at the first one that is damaged."""
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise UndecodableVideo("damaged: the container flags a packet as corrupt")
            if packet.size and packet.dts is None and packet.pts is None:
                raise UndecodableVideo("packets without time stamps: convert the file to MP4")
            yield packet
    except av.error.FFmpegError as error:
        raise undecodable(error, "damaged container") from error


def times_of_display(container: Any, packet: Any) -> bool:
    """Whether the packet says when its picture is shown, and not only when it is decoded."""
    return container.format.name != "avi" and packet.pts is not None


def seconds_of(stream: Any, stamp: int) -> float:
    """A time stamp as seconds from the stream's start."""
    return float((stamp - (stream.start_time or 0)) * stream.time_base)


def undecodable(error: Exception, what: str) -> Exception:
    """The data error for a fault that FFmpeg found; a fault of the system stays what it is.

    A damaged header can ask for petabytes. That is the file's fault, as long as there is memory for ordinary needs.
    """
    if isinstance(error, MemoryError) and not _memory_left():
        return error
    return UndecodableVideo(f"{what}: {error}")


def _memory_left() -> bool:
    try:
        bytearray(64 * 2**20)
    except MemoryError:
        return False
    return True
