"""Recorded human motion: takes of the Bandai-Namco-Research Motion dataset (Kobayashi et al. 2023; CC BY-NC 4.0)."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Joints = NDArray[np.float32]  # [..., J, 3] cm; y is up
STYLES = {
    "train": ("active", "normal", "feminine", "masculine"),
    "validation": ("exhausted",),
    "test": ("elderly", "youthful"),
}
"""Manners of moving, by subset: what is tested is a motion in a manner that was not trained on."""
MIN_FRAMES = 15  # a second; one take of the set is a fragment of 10 frames


class Skeleton(NamedTuple):
    """Names of the joints, and each joint's parent (-1: none)."""

    names: tuple[str, ...]
    parents: tuple[int, ...]


class Take(NamedTuple):
    """One recording of one motion in one style."""

    motion: str
    style: str
    joints: Joints  # [T, J, 3]
    fps: float

    @property
    def duration_s(self) -> float:
        """From the first frame to the last."""
        return (len(self.joints) - 1) / self.fps

    def between(self, start_s: float, frames: int, fps: float) -> Joints:
        """Joints `[frames, J, 3]` from a time on at another rate: places between two frames of the recording are linear."""
        place = np.clip((start_s + np.arange(frames) / fps) * self.fps, 0, len(self.joints) - 1)  # [frames]
        before = np.minimum(place.astype(int), len(self.joints) - 2)
        share = (place - before).astype(np.float32)[:, None, None]
        return self.joints[before] * (1 - share) + self.joints[before + 1] * share


def read_takes(data: Path) -> tuple[Skeleton, list[Take]]:
    """The skeleton and the takes of `DATA/mocap`, in the order of its table.

    Raises:
        ValueError: there is no such folder.
    """
    table = data / "mocap" / "takes.csv"
    if not table.is_file():
        raise ValueError(
            f"{table} is missing: --data names the folder that holds ucf9/ and mocap/ (see benchmarks/real)"
        )
    with open(table, newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["frames"]) >= MIN_FRAMES]
    with np.load(table.parent / "joints.npz") as joints:
        skeleton = Skeleton(tuple(map(str, joints["names"])), tuple(map(int, joints["parents"])))
        return skeleton, [
            Take(row["content"], row["style"], joints[row["take"]].astype(np.float32), float(row["fps"]))
            for row in rows
        ]
