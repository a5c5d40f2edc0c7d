"""Which detection finds which instance: the greedy matching of the ActivityNet protocol, without its loop.

The protocol (eval_detection of the ActivityNet challenge, Caba Heilbron et al., CVPR 2015) walks the detections of a
class by descending score; each takes the instance of its video that it overlaps most, among those that are still free
and reach the tIoU threshold. This is a serial dictatorship, and so the only stable matching of a market in which
detections prefer instances by tIoU and all instances prefer detections by score. Deferred acceptance (Gale and
Shapley, 1962) finds it in rounds, each a few numpy calls on all detections and thresholds at once. The rounds are few
(two or three a class on THUMOS14): they last only while a refused detection overlaps yet another instance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Pairs of a detection and an instance of the same video that overlap enough for at least one threshold.

    Sorted by detection, and within a detection by descending tIoU: the order in which it asks for instances.
    """

    detection: NDArray[np.int64]
    """`[P]` rank of the detection, 0 has the highest score."""
    instance: NDArray[np.int64]
    """`[P]` index of the instance."""
    tiou: NDArray[np.float64]
    """`[P]` temporal intersection over union."""


def matched_instances(
    detection_video: NDArray[np.int64],
    detection_segments: NDArray[np.float64],
    instance_video: NDArray[np.int64],
    instance_segments: NDArray[np.float64],
    tiou: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Tell for the detections of one class which instance each of them found.

    Args:
        detection_video: `[N]` video of each detection, by descending score; -1 where the video has no ground truth.
        detection_segments: `[N, 2]` start and end, in any one unit of time.
        instance_video: `[M]` video of each instance.
        instance_segments: `[M, 2]` start and end, in the same unit.
        tiou: `[T]` thresholds in (0, 1].

    Returns:
        `[T, N]` index of the instance that the detection is matched to at that threshold: a true positive. -1 for all
        others, which are false positives.
    """
    candidates = _candidates(detection_video, detection_segments, instance_video, instance_segments, float(tiou.min()))
    matched = np.full((len(tiou), len(detection_video)), -1, np.int64)
    proposers, instances = _deferred_acceptance(candidates, matched.shape[1], len(instance_video), tiou)
    matched.reshape(-1)[proposers] = instances
    return matched


def _candidates(
    detection_video: NDArray[np.int64],
    detection_segments: NDArray[np.float64],
    instance_video: NDArray[np.int64],
    instance_segments: NDArray[np.float64],
    floor: float,
) -> Candidates:
    """The pairs of one video whose tIoU is at least `floor`."""
    detection, instance = same_video_pairs(detection_video, instance_video)
    tiou = paired_tiou(detection_segments[detection], instance_segments[instance])  # [P]
    near = np.flatnonzero(tiou >= floor)
    detection, instance, tiou = detection[near], instance[near], tiou[near]
    # Of equal overlaps the later instance first: what the reversed ascending argsort of public evaluators does.
    order = np.lexsort((-instance, -tiou, detection))
    return Candidates(detection=detection[order], instance=instance[order], tiou=tiou[order])


def same_video_pairs(
    detection_video: NDArray[np.int64], instance_video: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of a detection and an instance of the same video, as two columns of rows `[P]`, sorted by detection."""
    by_video = np.argsort(instance_video, kind="stable")  # [M]
    first = np.searchsorted(instance_video[by_video], detection_video, side="left")  # [N]
    count = np.searchsorted(instance_video[by_video], detection_video, side="right") - first  # [N]
    detection = np.repeat(np.arange(len(count)), count)  # [P]
    within = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)  # [P] place within the video
    return detection, by_video[np.repeat(first, count) + within]


def paired_tiou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """tIoU of row i of `a` with row i of `b`, both `[P, 2]`; 0 where the union is empty. Shape `[P]`."""
    overlap = (np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0])).clip(min=0.0)
    union = (a[:, 1] - a[:, 0]) + (b[:, 1] - b[:, 0]) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def _deferred_acceptance(
    candidates: Candidates, detections: int, instances: int, tiou: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Run all thresholds side by side; return the flat indices into `[T, N]` of the detections that hold an instance, and
    that instance.

    A proposer is (threshold, detection) as `t * N + n`, an instance's place is `t * M + m`. Within one threshold a
    smaller proposer has the higher score, so the minimum of those who ask for a place is the one that keeps it.
    """
    first = np.searchsorted(candidates.detection, np.arange(detections))  # [N]
    # A detection's candidates are sorted by tIoU, so those that reach a threshold are a prefix of them.
    reach = np.array(
        [np.bincount(candidates.detection[candidates.tiou >= t], minlength=detections) for t in tiou], np.int64
    )  # [T, N]
    asks = np.tile(first, len(tiou))  # [T * N] position in the candidates of the instance each proposer asks for
    last = asks + reach.reshape(-1)  # [T * N]
    proposers = np.flatnonzero(asks < last)
    keeper = np.empty(len(tiou) * instances, np.int64)
    while True:
        place = proposers // detections * instances + candidates.instance[asks[proposers]]
        keeper.fill(asks.size)
        np.minimum.at(keeper, place, proposers)
        refused = proposers[keeper[place] != proposers]
        if not refused.size:
            return proposers, candidates.instance[asks[proposers]]
        asks[refused] += 1
        proposers = proposers[asks[proposers] < last[proposers]]
