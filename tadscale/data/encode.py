"""Frames to H.264 in memory: what generated and transcoded shards hold."""

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

FINEST = 100_000
"""Denominators of rates are no larger, which is far finer than anyone writes a rate. At a thousandth 6.6667 became 20/3, and
after 200 s pictures were asked for a moment before they came."""


def encode_h264(frames: NDArray[np.uint8], fps: float, *, gop_s: float = 2.0, crf: int = 23) -> bytes:
    """Encode frames as an MP4 file, twice the same frames giving twice the same bytes.

    Key frames stand exactly every `gop_s` seconds: random access decodes at most one group of pictures in vain, and a
    GOP of 2-3 s removes nearly all of that waste. One thread and bit-exact muxing make the bytes deterministic for one
    version of the encoder.

    Args:
        frames: `[T, H, W, 3]` RGB; `H` and `W` even (4:2:0 chroma), `T` at least 1.
        fps: frames a second.
        gop_s: seconds between key frames.
        crf: x264 quality, 0 (lossless) to 51; 18 is visually transparent.

    Raises:
        ValueError: the array is not `[T, H, W, 3]` uint8, a side is odd, or a number is out of range.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"frames must be a non-empty uint8 [T, H, W, 3] array, got {frames.dtype} {list(frames.shape)}"
        )
    return encode_pictures(frames, frames.shape[1], frames.shape[2], fps, gop_s=gop_s, crf=crf)


def encode_pictures(
    pictures: Iterable[NDArray[np.uint8]], height: int, width: int, fps: float, *, gop_s: float = 2.0, crf: int = 23
) -> bytes:
    """`encode_h264` of pictures `[H, W, 3]` that come one after the other."""
    _check(height, width, fps, gop_s, crf)
    return _encode(pictures, height, width, fps, gop_s, codec="libx264", pixels="yuv420p", quality={"crf": str(crf)})


def encode_lossless(
    pictures: Iterable[NDArray[np.uint8]], height: int, width: int, fps: float, *, gop_s: float = 2.0
) -> bytes:
    """Pictures `[H, W, 3]` to an MP4 file from which they come back bit for bit (H.264 in RGB, High 4:4:4 Predictive).

    For pictures that are no pictures, such as motion, where red and green mean different things.

    Raises:
        ValueError: a number is out of range.
    """
    _check(height + height % 2, width + width % 2, fps, gop_s, crf=0)  # full chroma: sides may be odd
    return _encode(pictures, height, width, fps, gop_s, codec="libx264rgb", pixels="rgb24", quality={"qp": "0"})


def _encode(
    pictures: Iterable[NDArray[np.uint8]],
    height: int,
    width: int,
    fps: float,
    gop_s: float,
    *,
    codec: str,
    pixels: str,
    quality: dict[str, str],
) -> bytes:
    rate = Fraction(fps).limit_denominator(FINEST)
    gop_frames = max(1, round(gop_s * float(rate)))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=_x264_options(gop_frames) | quality)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = 1 / rate
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _x264_options(gop_frames: int) -> dict[str, str]:
    # scenecut=0: no key frame out of turn. bf=0: pictures leave the decoder in the order in which they entered, so a
    # window ends without decoding ahead.
    # no-mbtree: macroblock-tree rate control reads memory that it did not write in small pictures. With it about 9 of 150
    # encodings of one 32x32 video differed from the others, without it none.
    params = f"keyint={gop_frames}:min-keyint={gop_frames}:scenecut=0:bframes=0:threads=1:no-mbtree=1"
    return {"preset": "veryfast", "flags": "+bitexact", "x264-params": params}


def _check(height: int, width: int, fps: float, gop_s: float, crf: int) -> None:
    if height % 2 or width % 2:
        raise ValueError(f"H.264 with 4:2:0 chroma needs even sides, got {height}x{width}: crop or resize the frames")
    if not (fps > 0 and gop_s > 0 and 0 <= crf <= 51):
        raise ValueError(f"need fps > 0, gop_s > 0 and crf in 0..51, got fps={fps}, gop_s={gop_s}, crf={crf}")
