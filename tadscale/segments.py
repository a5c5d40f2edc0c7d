"""The words that everything speaks: Segment and Detection."""

from dataclasses import dataclass
from typing import NamedTuple


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
