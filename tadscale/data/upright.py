"""Decoded pictures as a display shows them: turned upright, and their pixels as wide as they are meant to be."""

import struct
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from tadscale.data.crop import Crop

MATRIX = struct.Struct("=9i")


def pixel_aspect(stream: Any) -> float:
    """Width of a stream's pixels by their height: 1, unless it is anamorphic, as television recorded on tape and disc is."""
    return float(stream.sample_aspect_ratio or 1)


def upright_shape(frame: Any, aspect: float = 1.0) -> tuple[float, float]:
    """Height and width of a decoded picture once it is upright, in heights of its pixels.

    Args:
        frame: as it was decoded.
        aspect: see `pixel_aspect`; by default pixels are counted.
    """
    height, width = frame.height, frame.width * aspect
    return (width, height) if _quarter_turns(frame) % 2 else (height, width)


def upright_rgb(
    scaler: VideoReformatter, frame: Any, size: tuple[int, int], crop: Crop | None = None, aspect: float = 1.0
) -> NDArray[np.uint8]:
    """One decoded picture, scaled to `(height, width)` and turned upright: `[H, W, 3]` RGB.

    Args:
        scaler: of this stream.
        frame: as it was decoded.
        size: of the result.
        crop: scale it until it covers `size`, and cut; by default it is stretched.
        aspect: see `pixel_aspect`.

    Raises:
        UndecodableVideo: see `Crop.scaled`.
    """
    quarter_turns, scaled = _quarter_turns(frame), size
    if crop is not None:
        scaled = crop.scaled(upright_shape(frame, aspect), size)
    height, width = scaled[::-1] if quarter_turns % 2 else scaled
    picture = scaler.reformat(  # threads: 0, the default, is one a core
        frame, width, height, "rgb24", interpolation=Interpolation.AREA, threads=1
    )
    pixels = picture.to_ndarray()
    upright: NDArray[np.uint8] = np.rot90(pixels[::-1] if _mirrored(frame) else pixels, quarter_turns)  # [H', W', 3]
    return upright if crop is None else crop.cut(upright, size)


def _quarter_turns(frame: Any) -> int:
    """How often a picture has to be turned by 90 degrees anticlockwise, after it is flipped where it is mirrored.

    FFmpeg takes the angle from the first column of the matrix, where pictures' x goes to: so a flip is one of y.
    """
    return round(frame.rotation / 90) % 4


def _mirrored(frame: Any) -> bool:
    """Whether a picture is shown as in a mirror, as front cameras write it: its matrix `a b u c d v x y w` turns it over."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None or matrix.buffer_size < MATRIX.size:
        return False
    a, b, _, c, d, *_ = MATRIX.unpack_from(matrix)
    return bool(a * d < b * c)
