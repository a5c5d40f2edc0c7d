"""The words that everything speaks: Segment, Detection, and temporal intersection over union."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Segment(NamedTuple):
    """One annotated action of a video: ground truth."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """One predicted action of a video."""

    video: str
    label: str
    start_s: float
    end_s: float
    score: float


def temporal_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of every pair of two sets of time segments.

    Args:
        a: `[N, 2]` start and end, in any one unit of time.
        b: `[M, 2]` start and end, in the same unit.

    Returns:
        `[N, M]` in [0, 1]. A pair whose union is empty (two zero-length segments) scores 0.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    start = np.maximum(a[:, None, 0], b[None, :, 0])  # [N, M]
    end = np.minimum(a[:, None, 1], b[None, :, 1])  # [N, M]
    intersection = (end - start).clip(min=0.0)
    union = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0])[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
