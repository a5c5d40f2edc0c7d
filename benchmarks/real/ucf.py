"""Trimmed clips of UCF101 (Soomro, Zamir, Shah 2012): which there are, and what of them belongs to which subset."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.decode import decode_frames, probe_video

Picture = NDArray[np.uint8]  # [H, W, 3] RGB
TEST_GROUPS = range(1, 8)  # of split 1, as published
VALIDATION_GROUPS = range(8, 11)  # ours: the published split has no validation part


class Clip(NamedTuple):
    """One trimmed clip. Clips of a group are of one recording: a group is in one subset only."""

    path: Path
    action: str
    """The class that UCF101 gives the whole clip."""
    group: int
    duration_s: float

    @property
    def key(self) -> str:
        """The name that annotations call it by."""
        return self.path.stem

    @property
    def subset(self) -> str:
        """`train`, `validation` or `test`, by group."""
        return subset_of(self.group)


def subset_of(group: int) -> str:
    """The subset of a group of UCF101 (split 1)."""
    if group in TEST_GROUPS:
        return "test"
    return "validation" if group in VALIDATION_GROUPS else "train"


def read_clips(data: Path) -> list[Clip]:
    """The clips of `DATA/ucf9`, in the order of its index.

    Raises:
        ValueError: there is no such folder.
    """
    index = data / "ucf9" / "index.csv"
    if not index.is_file():
        raise ValueError(
            f"{index} is missing: --data names the folder that holds ucf9/ and mocap/ (see benchmarks/real)"
        )
    with open(index, newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Clip(
            index.parent / "clips" / row["file"],
            row["class"],
            int(row["group"]),
            int(row["frames"]) / float(row["fps"]),
        )
        for row in rows
    ]


def middle_picture(clip: Clip) -> Picture:
    """The picture in the middle of a clip, at the clip's own size."""
    video = clip.path.read_bytes()
    info = probe_video(video)
    return decode_frames(video, np.array([info.duration_s / 2]), (info.height, info.width))[0]
