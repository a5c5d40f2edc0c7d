"""Mean average precision over temporal IoU, by the ActivityNet detection protocol.

Source: eval_detection of the ActivityNet challenge (Caba Heilbron et al., CVPR 2015), which also gives the THUMOS14
figures of G-TAD, AFSD, ActionFormer and TadTR. What it leaves to its caller, or to chance, is fixed here:

- the classes are those of the ground truth; detections of any other class are left out, and counted;
- a detection on a video without ground truth of its class is a false positive, also when the video is unknown;
- the thresholds are decimal numbers, .4 and not `linspace(.3, .7, 5)[1]` = .39999999999999997: annotations are written
  to a tenth of a second, so a tIoU of just below .4 occurs, and weighs 0.05 points on S-CNN's THUMOS14 detections;
- a pair of two empty segments has tIoU 0 (there 0/0, and the comparison with NaN makes it a match);
- of equal overlaps the later instance is asked for first;
- the order of equal scores is named: see `TieOrder`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tadscale.errors import UserError
from tadscale.metrics.matching import matched_instances
from tadscale.metrics.tables import DetectionTable, GroundTruth, index_of

THUMOS14_TIOU = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Thresholds of the THUMOS14 tables."""
ACTIVITYNET_TIOU = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Thresholds of the ActivityNet-1.3 average."""

TieOrder = Literal["published", "stable"]
"""How detections of equal score are ranked.

`published`: numpy's default argsort, reversed, as public evaluators do. It repeats their figures digit for digit *on
the same processor*: the default sort is unstable, and numpy has one for AVX-512, one for AVX2 and one for the rest.
S-CNN's THUMOS14 detections, 28 % of which share a score with another of their class, get a mAP@.3 of .424126, .423227
and .419523 from the three (numpy 2.4). `stable`: a stable ascending argsort, reversed: the later row comes first, and
the figures are the same everywhere (.418148).
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """Detections of the ground truth's classes, sorted by class and descending score, with their verdicts."""

    tiou: NDArray[np.float64]
    """`[T]` thresholds."""
    row: NDArray[np.int64]
    """`[N]` row of the detection in its table."""
    label: NDArray[np.int64]
    """`[N]` class, an index into the ground truth's labels."""
    video: NDArray[np.int64]
    """`[N]` video, an index into the ground truth's videos, -1 for a video that it does not have."""
    instance: NDArray[np.int64]
    """`[T, N]` index of the instance that the detection found, in the ground truth; -1 for a false positive."""

    @property
    def true_positive(self) -> NDArray[np.bool_]:
        """`[T, N]` whether the detection found an instance."""
        return self.instance >= 0

    def class_ranges(self, classes: int) -> list[tuple[int, int]]:
        """First column and end of each of so many classes."""
        return _class_ranges(self.label, classes)


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanAveragePrecision:
    """Average precision per class and threshold, and its means. All values in [0, 1]."""

    tiou: tuple[float, ...]
    labels: tuple[str, ...]
    per_class: NDArray[np.float64]
    """`[K, T]` average precision of each class at each threshold."""
    instances: NDArray[np.int64]
    """`[K]` ground-truth instances of each class."""

    @property
    def per_tiou(self) -> NDArray[np.float64]:
        """`[T]` mAP at each threshold: the mean over classes."""
        return self.per_class.mean(axis=0)

    @property
    def average(self) -> float:
        """The mean of mAP over the thresholds, the one figure of the field's tables."""
        return float(self.per_tiou.mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for JSON."""
        return {
            "tiou": list(self.tiou),
            "mAP": self.per_tiou.tolist(),
            "average_mAP": self.average,
            "classes": [
                {"label": label, "instances": count, "AP": row}
                for label, count, row in zip(self.labels, self.instances.tolist(), self.per_class.tolist(), strict=True)
            ],
        }


def evaluate_detections(
    detections: DetectionTable,
    ground_truth: GroundTruth,
    tiou: Sequence[float] = THUMOS14_TIOU,
    ties: TieOrder = "published",
) -> MeanAveragePrecision:
    """Score detections against ground truth.

    Args:
        detections: any videos and classes, in any order.
        ground_truth: the videos of one subset.
        tiou: thresholds in (0, 1].
        ties: `published` to compare with published figures, `stable` to compare across machines.

    Raises:
        UserError: the ground truth has no instance, or a threshold is out of range.
    """
    return mean_average_precision(match_detections(detections, ground_truth, tiou, ties), ground_truth)


def mean_average_precision(matches: Matches, ground_truth: GroundTruth) -> MeanAveragePrecision:
    """Score detections that are matched already."""
    return MeanAveragePrecision(
        tiou=tuple(matches.tiou.tolist()),
        labels=ground_truth.labels,
        per_class=average_precision(matches, ground_truth),
        instances=np.bincount(ground_truth.label, minlength=len(ground_truth.labels)),
    )


def match_detections(
    detections: DetectionTable, ground_truth: GroundTruth, tiou: Sequence[float], ties: TieOrder = "published"
) -> Matches:
    """Rank the detections of each class and match them to instances; arguments as in `evaluate_detections`."""
    thresholds = _checked_thresholds(tiou)
    if not len(ground_truth):
        raise UserError(
            f"The ground truth has no instance in its {len(ground_truth.videos)} video(s), so there is no class to "
            "average over. Check the subset: the test split of ActivityNet, for one, is published without annotations."
        )
    label = index_of(detections.labels, ground_truth.labels)[detections.label]  # [rows] -1 for an unknown class
    video = index_of(detections.videos, ground_truth.videos)[detections.video]  # [rows] -1 for an unknown video
    row = np.argsort(label, kind="stable")
    row = row[label[row] >= 0]  # [N] by class
    found = np.full((len(thresholds), len(row)), -1, np.int64)  # [T, N]
    for index, (first, stop) in enumerate(_class_ranges(label[row], len(ground_truth.labels))):
        of_class = row[first:stop]
        of_class = of_class[_descending(detections.score[of_class], ties)]
        row[first:stop] = of_class
        instances = np.flatnonzero(ground_truth.label == index)  # [M]
        matched = matched_instances(
            video[of_class],
            detections.segments_s[of_class],
            ground_truth.video[instances],
            ground_truth.segments_s[instances],
            thresholds,
        )
        found[:, first:stop] = np.append(instances, -1)[matched]  # -1 reads the appended -1
    return Matches(tiou=thresholds, row=row, label=label[row], video=video[row], instance=found)


def average_precision(
    matches: Matches, ground_truth: GroundTruth, video_weight: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Interpolated average precision of each class.

    Args:
        matches: of this ground truth.
        video_weight: `[..., videos]` how often each video of the ground truth counts, for resampling over videos. Matching
            never crosses videos, so a resample needs new sums, no new matching. Detections on unknown videos count
            once.

    Returns:
        `[..., K, T]`; NaN for a class without any instance left under the weights.
    """
    weight = np.ones(len(ground_truth.videos)) if video_weight is None else video_weight
    weight = np.concatenate([weight, np.ones_like(weight[..., :1])], axis=-1)  # [..., videos + 1] video -1 counts once
    ranges, found = matches.class_ranges(len(ground_truth.labels)), matches.true_positive
    areas = [
        interpolated_average_precision(
            found[:, first:stop],
            weight[..., matches.video[first:stop]],
            weight[..., ground_truth.video[ground_truth.label == index]].sum(axis=-1),
        )
        for index, (first, stop) in enumerate(ranges)
    ]
    return np.stack(areas, axis=-2)


def interpolated_average_precision(
    true_positive: NDArray[np.bool_], weight: NDArray[np.float64], positives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area under the precision-recall curve whose precision is made non-increasing (PASCAL VOC 2010 and later).

    Args:
        true_positive: `[T, N]` verdicts by descending score.
        weight: `[..., N]` how often each detection counts.
        positives: `[...]` weighted number of instances.

    Returns:
        `[..., T]`, 0 without detections, NaN without instances.
    """
    hits = np.cumsum(true_positive * weight[..., None, :], axis=-1)  # [..., T, N]
    detections = np.cumsum(weight, axis=-1)[..., None, :]  # [..., 1, N]
    precision = np.divide(hits, detections, out=np.zeros_like(hits), where=detections > 0)  # [..., T, N]
    present = np.asarray(positives > 0)[..., None]  # [..., 1]
    recall = hits / np.where(present, positives[..., None], 1.0)[..., None]  # [..., T, N]
    return np.where(present, interpolated_area(precision, recall), np.nan)


def interpolated_area(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under curves of precision over recall, both `[..., N]`, precision made non-increasing first. Shape `[...]`."""
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]  # [..., N] best from this recall on
    gained = np.diff(recall, axis=-1, prepend=0.0)  # [..., N] recall gained by each detection
    return (gained * envelope).sum(axis=-1)


def tied_detections(detections: DetectionTable, ground_truth: GroundTruth) -> int:
    """How many detections of the ground truth's classes share a score with another of their class: their order is free."""
    known = index_of(detections.labels, ground_truth.labels)[detections.label] >= 0  # [N]
    pairs = np.stack([detections.label[known].astype(np.float64), detections.score[known]], axis=1)  # [N, 2]
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    return int(counts[counts > 1].sum())


def _descending(score: NDArray[np.float64], ties: TieOrder) -> NDArray[np.int64]:
    """The rows of one class by descending score. A sort per class: an unstable sort's ties depend on all it is
    given."""
    return np.argsort(score, kind="stable" if ties == "stable" else None)[::-1]


def _class_ranges(label: NDArray[np.int64], classes: int) -> list[tuple[int, int]]:
    """First row and end of each class in a sorted column of classes."""
    return list(pairwise(np.searchsorted(label, np.arange(classes + 1)).tolist()))


def _checked_thresholds(tiou: ArrayLike) -> NDArray[np.float64]:
    thresholds = np.atleast_1d(np.asarray(tiou, np.float64))
    if not thresholds.size or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise UserError(
            f"tIoU thresholds are {thresholds.tolist()}, expected one or more in (0, 1]. At 0 a detection anywhere in "
            "the video would match; percentages are written as fractions, .5 and not 50."
        )
    return thresholds
