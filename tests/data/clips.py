"""Small clips whose pictures say their own number, in whatever container and timing a test needs."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

BITS = 8


def numbered(count: int, height: int = 64, width: int = 128, first: int = 0) -> NDArray[np.uint8]:
    """Pictures `[count, H, W, 3]`: eight bars, black or white, spell the picture's number."""
    numbers = np.arange(first, first + count)
    bits = (numbers[:, None] >> np.arange(BITS)) & 1  # [T, 8]
    bars = np.repeat(bits, width // BITS, axis=1).astype(np.uint8) * 200 + 28  # [T, W]
    return np.broadcast_to(bars[:, None, :, None], (count, height, width, 3)).copy()


def read_number(picture: NDArray[np.uint8]) -> int:
    """The number that a picture spells."""
    height, width = picture.shape[:2]
    centres = (np.arange(BITS) * 2 + 1) * width // (2 * BITS)
    return int(((picture[height // 2, centres].mean(-1) > 128) << np.arange(BITS)).sum())


def read_numbers(frames: NDArray[np.uint8]) -> list[int]:
    """The numbers that pictures `[T, H, W, 3]` spell."""
    return [read_number(picture) for picture in frames]


def encode_clip(
    frames: Sequence[NDArray[np.uint8]],
    *,
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 10),
    container: str = "mp4",
    codec: str = "libx264",
    gop: int = 12,
    b_frames: int = 0,
    options: dict[str, str] | None = None,
) -> bytes:
    """A clip with picture `i` at `times[i] * time_base` (by default one a tick). Sizes may differ with MJPEG."""
    times = times or range(len(frames))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=1 / time_base)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"bf": str(b_frames), "g": str(gop), "preset": "veryfast"}
        for time, picture in zip(times, frames, strict=True):
            if codec == "mjpeg":
                packet = _jpeg(picture)
                packet.stream, packet.time_base, packet.pts, packet.dts = stream, time_base, time, time
                output.mux(packet)
            else:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = time, time_base
                output.mux(stream.encode(frame))
        if codec != "mjpeg":
            output.mux(stream.encode(None))
    return buffer.getvalue()


def _jpeg(picture: NDArray[np.uint8]) -> av.Packet:
    """One JPEG: MJPEG streams may change their size at any picture."""
    context = av.CodecContext.create("mjpeg", "w")
    context.height, context.width = picture.shape[:2]
    context.pix_fmt, context.time_base = "yuvj420p", Fraction(1, 10)
    [packet] = context.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    return packet


def audio_only() -> bytes:
    """An MP4 file that holds half a second of silence and no picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def with_cover(frames: Sequence[NDArray[np.uint8]]) -> bytes:
    """An MP4 file with a cover picture; without any frames the cover is all there is to see."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        cover = output.add_stream("mjpeg", rate=10)
        cover.width, cover.height, cover.pix_fmt = 128, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        if len(frames):
            stream = output.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        packet = _jpeg(np.full((64, 128, 3), 200, np.uint8))
        packet.stream, packet.time_base, packet.pts, packet.dts = cover, Fraction(1, 10), 0, 0
        output.mux(packet)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            output.mux(stream.encode(frame))
        if len(frames):
            output.mux(stream.encode(None))
    return buffer.getvalue()


def no_pictures() -> bytes:
    """An AVI file with a video stream of no length."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        output.start_encoding()
    return buffer.getvalue()


def with_hidden_tail(frames: Sequence[NDArray[np.uint8]], hidden: int) -> bytes:
    """A VP8 file of 10 pictures a second, the last of which are coded and marked as not to be shown."""
    source, buffer = io.BytesIO(encode_clip(frames, container="matroska", codec="libvpx")), io.BytesIO()
    with av.open(source) as given, av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(video=0) if packet.size]
        for place, packet in enumerate(packets):
            data = bytearray(bytes(packet))
            if place >= len(packets) - hidden:
                data[0] &= ~0x10  # show_frame, RFC 6386, section 9.1
            copy = av.Packet(bytes(data))
            copy.stream, copy.time_base, copy.pts, copy.dts = stream, packet.time_base, packet.pts, packet.dts
            copy.is_keyframe = packet.is_keyframe
            output.mux(copy)
    return buffer.getvalue()
