"""All that is asked of one detector's figures: how good, on what, why not better, and whether to believe them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics.average_precision import (
    MeanAveragePrecision,
    evaluate_detections,
    match_detections,
    mean_average_precision,
    tied_detections,
)
from tadscale.metrics.average_recall import AverageRecall, average_recall
from tadscale.metrics.calibration import Calibration, calibration
from tadscale.metrics.characteristics import Buckets, characteristics, quintiles
from tadscale.metrics.false_positives import FalsePositives, false_positives
from tadscale.metrics.sensitivity import Sensitivity, sensitivity
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.report.suspicions import find_suspicions

SEEN = 5e-5  # half a digit of what is shown


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One detector on one ground truth. Equal scores are ranked the same way on every machine."""

    name: str
    result: MeanAveragePrecision
    errors: FalsePositives
    sensitivities: tuple[Sensitivity, ...]
    """By length, coverage (where lengths of videos are known) and number of instances."""
    recall: AverageRecall
    calibration: Calibration | None
    """None where scores are no probabilities."""
    remarks: tuple[str, ...]
    """What is suspicious, the gravest first."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for JSON."""
        return {
            "name": self.name,
            **self.result.to_dict(),
            "false_positives": self.errors.to_dict(),
            "sensitivity": [one.to_dict() for one in self.sensitivities],
            "average_recall": self.recall.to_dict(),
            "calibration": self.calibration.to_dict() if self.calibration else None,
            "remarks": list(self.remarks),
        }


def diagnose(
    name: str,
    detections: DetectionTable,
    ground_truth: GroundTruth,
    *,
    tiou: Sequence[float],
    duration_s: NDArray[np.float64],
    buckets: Buckets | None = None,
    respelt: Mapping[str, str] | None = None,
) -> Diagnosis:
    """Look at a detector from all sides.

    Args:
        name: of the detector.
        detections: any videos and classes.
        ground_truth: the videos of one subset.
        tiou: thresholds in (0, 1] of mAP and errors; recall is over ActivityNet's.
        duration_s: `[videos]` length of each video of the ground truth, NaN where it is not known.
        buckets: of the data set; if none are named, fifths of the ground truth.
        respelt: see `find_suspicions`.

    Raises:
        UserError: the ground truth has no instance, or a threshold is out of range.
    """
    matches = match_detections(detections, ground_truth, tiou, ties="stable")
    sides = characteristics(ground_truth, duration_s, buckets or quintiles(ground_truth, duration_s))
    result = mean_average_precision(matches, ground_truth)
    return Diagnosis(
        name=name,
        result=result,
        errors=false_positives(matches, detections, ground_truth),
        sensitivities=tuple(sensitivity(matches, ground_truth, side) for side in sides),
        recall=average_recall(detections, ground_truth),
        calibration=calibration(detections, ground_truth),
        remarks=(
            *find_suspicions(detections, ground_truth, respelt, duration_s).remarks(),
            *_order(detections, ground_truth, tiou, result.average),
        ),
    )


def _order(
    detections: DetectionTable, ground_truth: GroundTruth, tiou: Sequence[float], average: float
) -> Iterator[str]:
    """Where scores tie, `tadscale score` gives the figure that public evaluators do."""
    if tied := tied_detections(detections, ground_truth):
        published = evaluate_detections(detections, ground_truth, tiou).average
        if abs(published - average) >= SEEN:
            yield (
                f"{tied} detections share a score with another of their class: in the order that public evaluators, and "
                f"`tadscale score`, give them on this processor the average mAP is {100 * published:.2f}."
            )
