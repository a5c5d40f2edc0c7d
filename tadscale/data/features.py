"""Rows of features: what a row stands for, and reading rows out of `.npy` bytes, of which nothing is ever unpickled."""

import io
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from tadscale.config import Config
from tadscale.data.quarantine import DataError

RGB_SUFFIX, FLOW_SUFFIX = "rgb.npy", "flow.npy"
"""Of a shard's members: `KEY.rgb.npy` and, where there are any, `KEY.flow.npy`."""
KINDS = ("float16", "float32", "float64")

Times = TypeVar("Times", float, NDArray[np.float64])


class FeatureRows(Config):
    """What a row of features is: one vector for a short clip of its video. The same for all videos of a data set."""

    channels: PositiveInt
    """Of the RGB features, which take the place of pictures."""
    stride: PositiveInt
    """Frames of the video from one row to the next."""
    offset: NonNegativeFloat
    """Frame of the video at the middle of row 0: 8 for clips of 16 frames."""
    video_fps: PositiveFloat
    """Frames a second of the videos that the features were computed on."""

    @property
    def fps(self) -> float:
        """Rows a second."""
        return self.video_fps / self.stride

    def to_rows(self, times_s: Times) -> Times:
        """Seconds of the video to rows, fractions included."""
        return (times_s * self.video_fps - self.offset) / self.stride

    def to_seconds(self, rows: Times) -> Times:
        """Rows to the seconds of the video that their middles show."""
        return (rows * self.stride + self.offset) / self.video_fps


class UnreadableFeatures(DataError):
    """A member that should hold rows of features does not."""


def parse_rows(data: bytes) -> NDArray[np.floating]:
    """Rows `[T, C]` of a `.npy` file, as they are stored. The bytes are not copied.

    Raises:
        UnreadableFeatures: another format, another number of axes, no numbers with a point, or a file cut short.
    """
    stream = io.BytesIO(data)
    try:
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, fortran_order, kind = read[np.lib.format.read_magic(stream)[0]](stream)
    except Exception as error:  # numpy parses a header that anyone may have written
        raise UnreadableFeatures(f"no .npy file ({str(error)[:80]})") from error
    if len(shape) != 2 or kind.name not in KINDS or 0 in shape:
        raise UnreadableFeatures(
            f"features are rows [T, C] of {', '.join(KINDS)}, and the file holds {kind} {list(shape)}"
        )
    held, stated = len(data) - stream.tell(), shape[0] * shape[1] * kind.itemsize  # before anything is allocated
    if held != stated:
        raise UnreadableFeatures(f"{held} bytes of features instead of the {stated} of {list(shape)}: cut short")
    flat = np.frombuffer(data, kind, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran_order else "C")


def npy_bytes(rows: NDArray[np.floating]) -> bytes:
    """Rows as a `.npy` file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(rows), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def cut_rows(data: bytes, first: int, count: int, channels: int | None = None) -> NDArray[np.float32]:
    """Some rows `[count, C]` of a `.npy` file.

    Args:
        data: the file.
        first: row to begin with.
        count: how many.
        channels: how many they must have, where that is known.

    Raises:
        UnreadableFeatures: it is none, has other channels, ends before, or holds what is not a number.
    """
    rows = parse_rows(data)
    if channels is not None and rows.shape[1] != channels:
        raise UnreadableFeatures(f"{rows.shape[1]} channels instead of {channels}")
    if first + count > len(rows):
        raise UnreadableFeatures(f"{len(rows)} rows, and {first + count} were to be read")
    cut = rows[first : first + count].astype(np.float32)
    if not np.isfinite(cut).all():
        raise UnreadableFeatures(f"rows {first} to {first + count} are not all finite numbers")
    return cut
