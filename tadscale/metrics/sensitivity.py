"""How detection depends on what an instance is like: mAP_N and misses of short and long, few and many.

Source: DETAD (Alwassel, Caba Heilbron, Escorcia, Ghanem, ECCV 2018), sections "Average-mAP Sensitivity" and "False Negative
Analysis". Its own figures are at tIoU .5 for THUMOS14 and the mean over .5:.05:.95 for ActivityNet; here they are means over
whatever thresholds the detections were matched at. The authors' code differs in two points: a detection that matches another
bucket's instance at one threshold is left out at all of them (up to .03 mAP_N apart on real detections, nothing at one
threshold), and instances without length or longer than their video are no ground truth; here they are, as for mAP.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics.average_precision import Matches, interpolated_area
from tadscale.metrics.characteristics import Characteristic
from tadscale.metrics.normalised import mean_instances, normalised_curve
from tadscale.metrics.tables import GroundTruth

MIN_PRECISION = 0.05
"""An instance that is found only at a normalised precision of this or below counts as missed (DETAD; Hoiem et al.): among so
many false positives nobody would look for it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sensitivity:
    """mAP_N and misses in the buckets of one characteristic. Means over the thresholds."""

    characteristic: str
    buckets: tuple[str, ...]
    instances: NDArray[np.int64]
    """`[B]` instances in each bucket."""
    normalised_map: NDArray[np.float64]
    """`[B]` average mAP_N, over the classes that have an instance there; NaN without any."""
    missed: NDArray[np.float64]
    """`[B]` share of the instances that are not found; NaN without any."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for JSON; null where a bucket is empty."""
        return {
            "characteristic": self.characteristic,
            "buckets": [
                {"bucket": name, "instances": count, "average_mAP_N": _or_none(score), "missed": _or_none(missed)}
                for name, count, score, missed in zip(
                    self.buckets, self.instances.tolist(), self.normalised_map, self.missed, strict=True
                )
            ],
        }


def sensitivity(matches: Matches, ground_truth: GroundTruth, characteristic: Characteristic) -> Sensitivity:
    """Score each bucket: its own instances as the ground truth, all false positives, no true positive of another bucket.

    Args:
        matches: of this ground truth.
        ground_truth: the instances.
        characteristic: of these instances.
    """
    buckets = range(len(characteristic.buckets))
    found = found_instances(matches, ground_truth)  # [T, M]
    inside = [characteristic.bucket == bucket for bucket in buckets]  # [B] of [M]
    return Sensitivity(
        characteristic=characteristic.name,
        buckets=characteristic.buckets,
        instances=np.array([rows.sum() for rows in inside]),
        normalised_map=np.array([_average_map(matches, ground_truth, rows) for rows in inside]),
        missed=np.array([1 - found[:, rows].mean() if rows.any() else np.nan for rows in inside]),
    )


def found_instances(matches: Matches, ground_truth: GroundTruth) -> NDArray[np.bool_]:
    """Which instances are found at a normalised precision above `MIN_PRECISION`, `[T, M]`."""
    verdict, mean = matches.true_positive, mean_instances(ground_truth)
    found = np.zeros((len(matches.tiou), len(ground_truth) + 1), np.bool_)  # the last for false positives
    counts = np.bincount(ground_truth.label, minlength=len(ground_truth.labels))  # [K]
    for (first, stop), count in zip(matches.class_ranges(len(counts)), counts, strict=True):
        hit = verdict[:, first:stop]
        precise = normalised_curve(hit, ~hit, int(count), mean).precision > MIN_PRECISION  # [T, n]
        threshold, place = np.nonzero(hit & precise)
        found[threshold, matches.instance[threshold, first + place]] = True
    return found[:, :-1]


def _average_map(matches: Matches, ground_truth: GroundTruth, inside: NDArray[np.bool_]) -> float:
    """Average mAP_N with the instances inside `[M]` as the ground truth; NaN where there are none."""
    mean, false = mean_instances(ground_truth), ~matches.true_positive
    true = np.append(inside, False)[matches.instance]  # [T, N] -1 reads the appended False
    counts = np.bincount(ground_truth.label[inside], minlength=len(ground_truth.labels))  # [K]
    areas = []
    for (first, stop), count in zip(matches.class_ranges(len(counts)), counts, strict=True):
        if count:
            curve = normalised_curve(true[:, first:stop], false[:, first:stop], int(count), mean)
            areas.append(interpolated_area(curve.precision, curve.recall).mean())
    return float(np.mean(areas)) if areas else float("nan")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
