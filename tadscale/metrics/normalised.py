"""Normalised mAP (mAP_N): average precision that does not depend on how frequent a class is.

Precision falls when instances are few, for the same detector: with twice the instances there are twice the hits among the
same false positives. So the mAP of short and of long instances cannot be compared, nor of two sets of classes. Normalised
precision replaces the number of instances by one constant N, the mean over classes:

    P_N(rank) = R(rank) * N / (R(rank) * N + F(rank)),   R recall, F false positives so far.

Source: Hoiem, Chodpathumwan, Dai, "Diagnosing Error in Object Detectors", ECCV 2012; for temporal detection
Alwassel, Caba Heilbron, Escorcia, Ghanem, "Diagnosing Error in Temporal Action Detectors" (DETAD), ECCV 2018, which sets N
to the mean number of instances per class.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics.average_precision import Matches, interpolated_area
from tadscale.metrics.tables import GroundTruth


class Curve(NamedTuple):
    """Recall and normalised precision after each detection of one class, `[T, n]` each."""

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]


def mean_instances(ground_truth: GroundTruth) -> float:
    """N: instances per class, on average."""
    return len(ground_truth) / len(ground_truth.labels)


def normalised_curve(
    true_positive: NDArray[np.bool_], false_positive: NDArray[np.bool_], instances: int, mean_instances: float
) -> Curve:
    """Recall and normalised precision of one class.

    Args:
        true_positive: `[T, n]` by descending score.
        false_positive: `[T, n]`. A detection that is neither is as if it were not there.
        instances: of the class, one or more.
        mean_instances: N.
    """
    recall = np.cumsum(true_positive, axis=1) / instances  # [T, n]
    hits, misses = recall * mean_instances, np.cumsum(false_positive, axis=1)  # [T, n] each
    return Curve(recall, np.divide(hits, hits + misses, out=np.zeros_like(hits), where=hits + misses > 0))


def normalised_average_precision(
    matches: Matches, ground_truth: GroundTruth, counted: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """AP_N of each class at each threshold.

    Args:
        matches: of this ground truth.
        ground_truth: all of its instances count.
        counted: `[T, N]` which detections are there; all, if none are named.

    Returns:
        `[K, T]`; 0 for a class without detections.
    """
    found, mean = matches.true_positive, mean_instances(ground_truth)
    there = np.ones_like(found) if counted is None else counted
    instances = np.bincount(ground_truth.label, minlength=len(ground_truth.labels))  # [K]
    return np.array(
        [
            _area(found[:, first:stop], there[:, first:stop], int(count), mean)
            for (first, stop), count in zip(matches.class_ranges(len(instances)), instances, strict=True)
        ]
    )


def _area(found: NDArray[np.bool_], there: NDArray[np.bool_], instances: int, mean: float) -> NDArray[np.float64]:
    curve = normalised_curve(found & there, ~found & there, instances, mean)
    return interpolated_area(curve.precision, curve.recall)
