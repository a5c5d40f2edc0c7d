"""How a video looks and moves, in five numbers: enough to notice another camera, another light, another pace."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadscale.config import Config
from tadscale.data.decode import decode_frames
from tadscale.data.manifest import VideoRow
from tadscale.data.quarantine import DataError
from tadscale.data.windows import read_video

PAIRS = 4
"""Moments of a video that are looked at, each by two pictures."""
APART_S = 0.1
SIDE = 64
"""Pixels: brightness and pace survive at this size, detail and noise do not."""
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
TO_CB, TO_CR = 0.564, 0.713  # likewise: of blue minus luma, of red minus luma


class VideoLook(Config):
    """One video's appearance and motion. Grey levels are of 255."""

    luma: float
    """Mean brightness."""
    contrast: float
    """Standard deviation of the brightness."""
    cb: float
    """Mean blue difference."""
    cr: float
    """Mean red difference."""
    speed: float
    """Of the brightness pattern along its gradient, in pixels of a picture of 64 x 64 per 0.1 s: the normal flow of Horn and
    Schunck (Determining Optical Flow, 1981, section 4), over the picture, weighed by gradient. It costs two differences,
    where flow costs seconds, and does not depend on brightness and contrast."""


LOOKS = tuple(VideoLook.model_fields)


def look_at_video(row: VideoRow) -> VideoLook | None:
    """Fetch a video and look at a few moments of it; None if it cannot be decoded. Raises `StorageError`."""
    try:
        frames = decode_frames(read_video(row), moments_s(row.duration_s), (SIDE, SIDE))
    except DataError:
        return None
    return look_at(frames.reshape(PAIRS, 2, SIDE, SIDE, 3))


def moments_s(duration_s: float) -> NDArray[np.float64]:
    """`[2 * PAIRS]` times of the pictures, spread over a video of that length; not decreasing."""
    last = max(0.0, duration_s - 2 * APART_S)
    firsts = last * (np.arange(PAIRS) + 0.5) / PAIRS  # [P]
    apart = min(APART_S, last / PAIRS)
    return np.stack([firsts, firsts + apart], axis=1).reshape(-1)


def look_at(pairs: NDArray[np.uint8]) -> VideoLook:
    """What pictures tell.

    Args:
        pairs: `[P, 2, H, W, 3]` RGB, two pictures of each moment.
    """
    rgb = pairs.astype(np.float64)
    luma = rgb @ LUMA  # [P, 2, H, W]
    return VideoLook(
        luma=_rounded(luma.mean()),
        contrast=_rounded(luma.std()),
        cb=_rounded(TO_CB * (rgb[..., 2] - luma).mean()),
        cr=_rounded(TO_CR * (rgb[..., 0] - luma).mean()),
        speed=_rounded(normal_flow(luma)),
    )


def normal_flow(luma: NDArray[np.float64]) -> float:
    """Pixels from the first picture of each pair to the second, along the gradient; 0 where there is none.

    Args:
        luma: `[P, 2, H, W]` brightness.
    """
    change = np.abs(luma[:, 1] - luma[:, 0])  # [P, H, W]
    down, right = np.gradient(luma.mean(axis=1), axis=(1, 2))
    slope = np.hypot(down, right)
    return float(change.sum() / slope.sum()) if slope.any() else 0.0


def _rounded(value: Any) -> float:
    return round(float(value), 4)
