"""Is a score a probability? Scores against the precision of the detections that have them.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 2: reliability diagram
and expected calibration error (ECE). For detection the accuracy of a bin is its precision (Küppers, Kronenberger, Shantia,
Haselhoff, "Multivariate Confidence Calibration for Object Detection", CVPR workshops 2020).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics.average_precision import match_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth

BINS = 10
TIOU = 0.5
"""Overlap from which a detection is right."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Ten bins of equal width over scores from 0 to 1."""

    detections: NDArray[np.int64]
    """`[BINS]` detections in each bin."""
    score: NDArray[np.float64]
    """`[BINS]` their mean score; NaN in an empty bin."""
    precision: NDArray[np.float64]
    """`[BINS]` share of them that is right; NaN in an empty bin."""

    @property
    def error(self) -> float:
        """ECE: the mean distance of score and precision, each detection counting alike; 0 without detections.

        A detector writes hundreds of detections of next to no score, which are rightly wrong: they make it small.
        """
        full = self.detections > 0
        distance = np.abs(self.score[full] - self.precision[full])
        return float(distance @ self.detections[full] / max(self.detections.sum(), 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON; null in empty bins."""
        return {
            "tiou": TIOU,
            "ECE": self.error,
            "detections": self.detections.tolist(),
            "score": [None if np.isnan(value) else float(value) for value in self.score],
            "precision": [None if np.isnan(value) else float(value) for value in self.precision],
        }


def calibration(detections: DetectionTable, ground_truth: GroundTruth) -> Calibration | None:
    """Compare scores with precision at tIoU .5, over detections of the ground truth's classes.

    Returns:
        None where a score is outside [0, 1]: such scores do not claim to be probabilities.
    """
    matches = match_detections(detections, ground_truth, (TIOU,), ties="stable")
    score, right = detections.score[matches.row], matches.true_positive[0]  # [N] each
    if len(score) and (score.min() < 0 or score.max() > 1):
        return None
    bin_of = np.minimum((score * BINS).astype(np.int64), BINS - 1)  # [N] a score of 1 is in the last
    count = np.bincount(bin_of, minlength=BINS)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        return Calibration(
            detections=count,
            score=np.bincount(bin_of, score, BINS) / count,
            precision=np.bincount(bin_of, right, BINS) / count,
        )
