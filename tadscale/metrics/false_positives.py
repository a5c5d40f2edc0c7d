"""What false positives are: a profile of errors by rank, and what removing each kind would gain.

Source: Alwassel, Caba Heilbron, Escorcia, Ghanem, "Diagnosing Error in Temporal Action Detectors" (DETAD), ECCV 2018,
section "False Positive Analysis". A detection that is not matched is judged by the instance of its video that it overlaps
most, whatever that one's class:

    tIoU            its own class        another class
    >= threshold    double detection     wrong label
    >= 0.1          localisation         confusion
    below           background           background

Of equal overlaps the instance of its own class decides: THUMOS14 annotates every CliffDiving as Diving too, and which of
the two stands first in the file says nothing about a detection.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics.average_precision import Matches
from tadscale.metrics.matching import paired_tiou, same_video_pairs
from tadscale.metrics.normalised import normalised_average_precision
from tadscale.metrics.tables import DetectionTable, GroundTruth

RANKS = 10
"""Ranges of rank in the profile: the G best detections of each class, the G next, ... up to 10 G. G is the number of the
class's instances, so a perfect detector has true positives in the first and nothing after."""
BACKGROUND_TIOU = 0.1
"""Overlap below which a detection has nothing to do with an instance (DETAD)."""


class Verdict(IntEnum):
    """What a detection is."""

    TRUE_POSITIVE = 0
    DOUBLE_DETECTION = 1
    WRONG_LABEL = 2
    LOCALISATION = 3
    CONFUSION = 4
    BACKGROUND = 5


ERRORS = tuple(Verdict)[1:]


@dataclass(frozen=True, kw_only=True, eq=False)
class FalsePositives:
    """The profile, and the gains. Means over the thresholds."""

    detections: NDArray[np.int64]
    """`[RANKS]` detections in each range of rank."""
    share: NDArray[np.float64]
    """`[RANKS, verdicts]` what they are; a row sums to 1, or to 0 where nothing is left to rank."""
    normalised_map: float
    """Average mAP_N of the detections up to 10 G."""
    gain: NDArray[np.float64]
    """`[errors]` by how much it rises when the detections of that error are removed."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for JSON."""
        return {
            "detections": self.detections.tolist(),
            "share": {verdict.name.lower(): self.share[:, verdict].tolist() for verdict in Verdict},
            "average_mAP_N": self.normalised_map,
            "gain": {error.name.lower(): float(gain) for error, gain in zip(ERRORS, self.gain, strict=True)},
        }


def false_positives(matches: Matches, detections: DetectionTable, ground_truth: GroundTruth) -> FalsePositives:
    """Profile the errors of a detector.

    Args:
        matches: of these detections with this ground truth.
        detections: of any videos and classes.
        ground_truth: the videos of one subset.
    """
    best = _best_ranked(matches, ground_truth)
    rank = _rank_range(best, ground_truth)  # [N]
    verdict = verdicts(best, detections, ground_truth)  # [T, N]
    count = np.bincount(rank, minlength=RANKS)  # [RANKS]
    of_kind = np.stack([_mean_count(verdict == kind, rank) for kind in Verdict], axis=1)  # [RANKS, verdicts]
    base = normalised_average_precision(best, ground_truth).mean()
    without = [normalised_average_precision(best, ground_truth, verdict != error).mean() for error in ERRORS]
    return FalsePositives(
        detections=count,
        share=of_kind / np.maximum(count, 1)[:, None],
        normalised_map=float(base),
        gain=np.array(without) - base,
    )


def verdicts(matches: Matches, detections: DetectionTable, ground_truth: GroundTruth) -> NDArray[np.int64]:
    """The `Verdict` on each matched or unmatched detection at each threshold, `[T, N]` in the order of the matches."""
    best, best_of_class = _best_overlaps(matches, detections, ground_truth)  # [N] each
    own = best_of_class == best  # [N] equal overlaps: its own class decides
    near = best >= BACKGROUND_TIOU  # [N]
    missed = np.where(own, Verdict.LOCALISATION, Verdict.CONFUSION)  # [N]
    hit = np.where(own, Verdict.DOUBLE_DETECTION, Verdict.WRONG_LABEL)  # [N]
    reached = best >= matches.tiou[:, None]  # [T, N]
    error = np.where(reached, hit, np.where(near, missed, Verdict.BACKGROUND))  # [T, N]
    return np.where(matches.true_positive, Verdict.TRUE_POSITIVE, error)


def _best_overlaps(
    matches: Matches, detections: DetectionTable, ground_truth: GroundTruth
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each detection's largest tIoU with an instance of its video, of any class and of its own; 0 without one."""
    detection, instance = same_video_pairs(matches.video, ground_truth.video)  # [P] each
    segments = detections.segments_s[matches.row]  # [N, 2]
    tiou = paired_tiou(segments[detection], ground_truth.segments_s[instance])  # [P]
    own = matches.label[detection] == ground_truth.label[instance]  # [P]
    best, best_of_class = np.zeros(len(segments)), np.zeros(len(segments))
    np.maximum.at(best, detection, tiou)
    np.maximum.at(best_of_class, detection[own], tiou[own])
    return best, best_of_class


def _best_ranked(matches: Matches, ground_truth: GroundTruth) -> Matches:
    """The 10 G best detections of each class. What is below takes no instance from them, so their matches stand."""
    rows = np.flatnonzero(_rank_range(matches, ground_truth) < RANKS)
    return replace(
        matches,
        row=matches.row[rows],
        label=matches.label[rows],
        video=matches.video[rows],
        instance=matches.instance[:, rows],
    )


def _rank_range(matches: Matches, ground_truth: GroundTruth) -> NDArray[np.int64]:
    """Which G of its class a detection is in, from 0 on. Shape `[N]`."""
    instances = np.bincount(ground_truth.label, minlength=len(ground_truth.labels))  # [K]
    first = np.array([start for start, _ in matches.class_ranges(len(instances))], np.int64)  # [K]
    return (np.arange(len(matches.label)) - first[matches.label]) // instances[matches.label]


def _mean_count(is_kind: NDArray[np.bool_], rank: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many of each range of rank are of a kind `[T, N]`, mean over the thresholds. Shape `[RANKS]`."""
    share = is_kind.mean(axis=0)  # [N] of the thresholds
    return np.array([share[rank == place].sum() for place in range(RANKS)])
