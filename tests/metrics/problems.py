"""Ground truth and detections to score: written by hand, or drawn."""

import numpy as np

from tadscale.metrics import DetectionTable, GroundTruth
from tadscale.segments import Detection, Segment


def truth(**videos: list[tuple[str, float, float]]) -> GroundTruth:
    return GroundTruth.from_segments({video: [Segment(*row) for row in rows] for video, rows in videos.items()})


def found(*rows: tuple[str, str, float, float, float]) -> DetectionTable:
    names = ("video", "label", "start_s", "end_s", "score")
    return DetectionTable.from_detections(Detection(**dict(zip(names, row, strict=True))) for row in rows)


def random_problem(seed: int) -> tuple[DetectionTable, GroundTruth]:
    """Segments on a coarse grid and few distinct scores, so that scores and overlaps tie; unknown videos and classes."""
    random = np.random.default_rng(seed)
    videos, labels = ("a", "b", "c", "d"), ("jump", "run", "throw")

    def segments(count: int) -> np.ndarray:
        start = random.integers(0, 12, count)
        return np.stack([start, start + random.integers(0, 7, count)], axis=1).astype(float)

    instances, rows = 25, int(random.integers(0, 90))
    instance_label = random.integers(2, size=instances)
    return DetectionTable(
        videos=("z", *videos[::-1]),
        labels=("swim", *labels[::-1]),
        video=random.integers(5, size=rows),
        label=random.integers(4, size=rows),
        segments_s=segments(rows),
        score=random.integers(0, 6, rows) / 5,
    ), GroundTruth(
        videos=videos,
        labels=labels[:2],
        video=random.integers(4, size=instances),
        label=instance_label,
        segments_s=segments(instances),
    )
