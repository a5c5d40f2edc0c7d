"""Ground truth and detections as numpy columns: what the evaluator reads.

A list of `Detection` objects is the pleasant form, columns are the fast one: evaluation, suppression and resampling
work on columns. Rows keep the order in which they came, because that order breaks ties of score.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tadscale.segments import Detection, Segment


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundTruth:
    """Annotated instances of a set of videos.

    Raises:
        ValueError: a column has the wrong shape, an index is out of its vocabulary, or a time is not finite.
    """

    videos: tuple[str, ...]
    """Every video of the set, those without an instance included: detections on them are false positives."""
    labels: tuple[str, ...]
    """The classes to be averaged over: each has at least one instance, sorted by name."""
    video: NDArray[np.int64]
    """`[M]` index into `videos`."""
    label: NDArray[np.int64]
    """`[M]` index into `labels`."""
    segments_s: NDArray[np.float64]
    """`[M, 2]` start and end in seconds. Empty or inverted ones stay: instances that nothing can match."""

    def __post_init__(self) -> None:
        _check_column("video", self.video, len(self.video), len(self.videos))
        _check_column("label", self.label, len(self.video), len(self.labels))
        _check_values("segments_s", self.segments_s, (len(self.video), 2))

    def __len__(self) -> int:
        """The number of instances."""
        return len(self.video)

    @classmethod
    def from_segments(cls, segments: Mapping[str, Iterable[Segment]]) -> "GroundTruth":
        """Build the table from the segments of each video, in the order of the mapping."""
        rows = [(video, *segment) for video, of_video in segments.items() for segment in of_video]
        videos = tuple(segments)
        labels = tuple(sorted({row[1] for row in rows}))
        return cls(
            videos=videos,
            labels=labels,
            video=index_of([row[0] for row in rows], videos),
            label=index_of([row[1] for row in rows], labels),
            segments_s=np.array([row[2:] for row in rows], np.float64).reshape(-1, 2),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionTable:
    """Scored detections of a set of videos.

    Raises:
        ValueError: a column has the wrong shape, an index is out of its vocabulary, or a time or score is not finite. A
            NaN score would be ranked above all others, and a diverged model scored as if it had spoken.
    """

    videos: tuple[str, ...]
    labels: tuple[str, ...]
    video: NDArray[np.int64]
    """`[N]` index into `videos`."""
    label: NDArray[np.int64]
    """`[N]` index into `labels`."""
    segments_s: NDArray[np.float64]
    """`[N, 2]` start and end in seconds."""
    score: NDArray[np.float64]
    """`[N]` confidence, higher is surer; only its order matters to mAP."""

    def __post_init__(self) -> None:
        _check_column("video", self.video, len(self.score), len(self.videos))
        _check_column("label", self.label, len(self.score), len(self.labels))
        _check_values("segments_s", self.segments_s, (len(self.score), 2))
        _check_values("score", self.score, (len(self.score),))

    def __len__(self) -> int:
        """The number of detections."""
        return len(self.score)

    @classmethod
    def from_detections(cls, detections: Iterable[Detection]) -> "DetectionTable":
        """Build the table from detections, in their order."""
        rows = list(detections)
        videos = tuple(dict.fromkeys(row.video for row in rows))
        labels = tuple(sorted({row.label for row in rows}))
        return cls(
            videos=videos,
            labels=labels,
            video=index_of([row.video for row in rows], videos),
            label=index_of([row.label for row in rows], labels),
            segments_s=np.array([(row.start_s, row.end_s) for row in rows], np.float64).reshape(-1, 2),
            score=np.array([row.score for row in rows], np.float64),
        )

    def to_detections(self) -> list[Detection]:
        """The rows as objects, in the table's order."""
        return [
            Detection(video=self.videos[video], label=self.labels[label], start_s=start_s, end_s=end_s, score=score)
            for video, label, (start_s, end_s), score in zip(
                self.video.tolist(), self.label.tolist(), self.segments_s.tolist(), self.score.tolist(), strict=True
            )
        ]


def index_of(names: Sequence[str], vocabulary: Sequence[str]) -> NDArray[np.int64]:
    """The place of each name in the vocabulary, -1 for a name that is not in it. Shape `[len(names)]`."""
    places = {name: place for place, name in enumerate(vocabulary)}
    return np.fromiter((places.get(name, -1) for name in names), np.int64, count=len(names))


def _check_column(name: str, column: NDArray[np.int64], rows: int, vocabulary: int) -> None:
    if column.shape != (rows,):
        raise ValueError(f"{name} has shape {column.shape}, expected ({rows},): every column needs one entry per row.")
    if rows and (column.min() < 0 or column.max() >= vocabulary):
        raise ValueError(
            f"{name} holds indices from {column.min()} to {column.max()}, but its vocabulary has {vocabulary} names. "
            "Use indices into the table's own videos and labels."
        )


def _check_values(name: str, values: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}, expected {shape}: one row per entry of the other columns.")
    finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))  # [rows]
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"{name} of row {row} is {values[row]}, and {int((~finite).sum())} row(s) in all are not finite. "
            "A model that diverged gives such numbers: check its training loss, or drop these rows."
        )
