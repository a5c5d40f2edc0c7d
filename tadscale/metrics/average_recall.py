"""Average recall over average number of proposals (AR@AN): are the segments there at all, whatever their class and score?

Source: eval_proposal of the ActivityNet challenge; the curve is from Escorcia, Caba Heilbron, Niebles, Ghanem, "DAPs: Deep
Action Proposals for Action Understanding", ECCV 2016. Videos differ in length and so in proposals: an average of AN means
the same *share* of every video's proposals, the best first. Recall is over all instances, averaged over tIoU .5:.05:.95. The
area under the curve from AN = 1 to 100, over 100, is the challenge's figure. Shares are computed in whole numbers here; the
challenge's floating point drops a proposal now and then where a share is exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics.average_precision import ACTIVITYNET_TIOU
from tadscale.metrics.matching import paired_tiou, same_video_pairs
from tadscale.metrics.tables import DetectionTable, GroundTruth, index_of

MAX_PROPOSALS = 100
"""Largest average number of proposals per video (ActivityNet)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AverageRecall:
    """Recall at 1 to 100 proposals per video on average."""

    tiou: tuple[float, ...]
    recall: NDArray[np.float64]
    """`[T, MAX_PROPOSALS]` at each threshold and average number."""

    @property
    def average(self) -> NDArray[np.float64]:
        """`[MAX_PROPOSALS]` AR@1 to AR@100: the mean over thresholds."""
        return self.recall.mean(axis=0)

    @property
    def area(self) -> float:
        """Area under AR over AN, in [0, 1]."""
        return float(np.trapezoid(self.average) / MAX_PROPOSALS)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {"tiou": list(self.tiou), "AR": self.average.tolist(), "AUC": self.area}


def average_recall(
    detections: DetectionTable, ground_truth: GroundTruth, tiou: tuple[float, ...] = ACTIVITYNET_TIOU
) -> AverageRecall:
    """Recall of instances by the best detections of their videos, classes disregarded on both sides.

    Args:
        detections: of any videos and classes. Where a segment is detected as several classes it counts as often.
        ground_truth: one instance or more. Videos without any do not count.
        tiou: thresholds in (0, 1].
    """
    video = index_of(detections.videos, ground_truth.videos)[detections.video]  # [N] -1 outside the subset
    row, rank = _ranked(video, detections.score)  # [N'] each
    detection, instance = same_video_pairs(video[row], ground_truth.video)  # [P] each
    overlap = paired_tiou(detections.segments_s[row[detection]], ground_truth.segments_s[instance])  # [P]
    allowed = _allowed(video, ground_truth)[ground_truth.video]  # [M, MAX_PROPOSALS]
    recall = []
    for threshold in tiou:
        near = overlap >= threshold
        first = np.full(len(ground_truth), len(video) + 1)  # [M] rank of the best detection that finds it
        np.minimum.at(first, instance[near], rank[detection[near]])
        recall.append((first[:, None] < allowed).mean(axis=0))
    return AverageRecall(tiou=tiou, recall=np.array(recall))


def _ranked(video: NDArray[np.int64], score: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows on known videos, by video and descending score (of equal scores the later row first), and their ranks."""
    row = np.lexsort((-np.arange(len(score)), -score, video))
    row = row[video[row] >= 0]
    return row, np.arange(len(row)) - np.searchsorted(video[row], video[row], side="left")


def _allowed(video: NDArray[np.int64], ground_truth: GroundTruth) -> NDArray[np.int64]:
    """How many proposals each video may use at an average of 1 to 100 per video, `[videos, MAX_PROPOSALS]`."""
    annotated = np.bincount(ground_truth.video, minlength=len(ground_truth.videos)) > 0  # [videos]
    videos = int(annotated.sum())
    known = video[video >= 0]
    proposals = np.bincount(known, minlength=len(annotated)) * annotated  # [videos]
    # In two steps, as the challenge does: first the largest average for all, then its shares.
    kept = np.minimum(proposals * MAX_PROPOSALS * videos // max(len(video), 1), proposals)
    average = np.arange(1, MAX_PROPOSALS + 1)
    return np.minimum(kept[:, None] * average * videos // max(int(kept.sum()), 1), kept[:, None])
