"""Detectors drawn at random: how good each is is known, and how well it does on these videos is left to chance."""

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics import DetectionTable, GroundTruth

LABELS = ("jump", "run")


def truth(videos: int) -> GroundTruth:
    """Two actions in each video, one of each class."""
    start_s = np.tile([0.0, 20.0], videos)
    return GroundTruth(
        videos=tuple(f"v{n}" for n in range(videos)),
        labels=LABELS,
        video=np.repeat(np.arange(videos), 2),
        label=np.tile([0, 1], videos),
        segments_s=np.stack([start_s, start_s + 10], axis=1),
    )


def difficulty(ground_truth: GroundTruth, random: np.random.Generator) -> NDArray[np.float64]:
    """`[M]` how much easier or harder than usual the video of each instance is, for whoever looks at it."""
    return random.normal(0, 0.2, len(ground_truth.videos))[ground_truth.video]


def detector(
    ground_truth: GroundTruth, recall: NDArray[np.float64] | float, random: np.random.Generator
) -> DetectionTable:
    """Finds each instance with a probability `[M]`, up to 4 s off, and puts what it missed somewhere else."""
    found = random.uniform(size=len(ground_truth)) < np.clip(recall, 0.05, 0.95)
    moved_s = random.uniform(0, 4, len(ground_truth)) + np.where(found, 0, 100)
    return DetectionTable(
        videos=ground_truth.videos,
        labels=ground_truth.labels,
        video=ground_truth.video,
        label=ground_truth.label,
        segments_s=ground_truth.segments_s + moved_s[:, None],
        score=random.uniform(size=len(ground_truth)) + 0.5 * found,
    )
