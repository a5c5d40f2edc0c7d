"""Non-maximum suppression of overlapping detections: greedy (hard) and Soft-NMS, per class or across classes.

Soft-NMS: Bodla, Singh, Chellappa, Davis, "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017,
section 3, with the Gaussian penalty, here on temporal IoU. The step from pick to pick is sequential by nature, so the
classes are what runs side by side: 200 picks of 20 classes take 200 vector steps and not 4,000.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tadscale.config import Config


class NmsConfig(Config):
    """How the detections of one video are thinned out."""

    method: Literal["soft", "hard", "none"] = "soft"
    """`soft` lowers the score of what overlaps a better detection, `hard` removes it, `none` only ranks and cuts
    (DETR-like heads are trained to need no more)."""
    sigma: float = Field(default=0.5, gt=0)
    """Soft: a score is multiplied by exp(-tIoU^2 / sigma); smaller suppresses more."""
    tiou: float = Field(default=0.5, gt=0, le=1)
    """Hard: what overlaps a better detection by this tIoU or more is removed."""
    class_agnostic: bool = False
    """Let detections of different classes suppress each other: for videos in which one action happens at a time."""
    min_score: float = Field(default=0.001, ge=0, lt=1)
    """Detections that are, or have sunk, below this are dropped."""
    top_k: int = Field(default=200, ge=1)
    """The most detections kept of one video, over all its classes."""


class Kept(NamedTuple):
    """What suppression leaves of one video, by descending score."""

    row: NDArray[np.int64]
    """`[K]` rows of the input."""
    score: NDArray[np.float64]
    """`[K]` scores after suppression."""


def suppress(
    segments: NDArray[np.floating], scores: NDArray[np.floating], labels: NDArray[np.integer], config: NmsConfig
) -> Kept:
    """Thin out the detections of one video.

    Args:
        segments: `[N, 2]` start and end, in any one unit of time.
        scores: `[N]`, not negative.
        labels: `[N]` class of each; read only when classes are kept apart.
        config: the method and its limits.

    Returns:
        The kept rows with their scores. Of equal scores the earlier row comes first.

    Raises:
        ValueError: the arrays differ in length, or a score is negative or not a number.
    """
    times, score = np.asarray(segments, np.float64), np.asarray(scores, np.float64)
    if times.shape != (len(score), 2) or len(labels) != len(score):
        raise ValueError(
            f"segments {times.shape}, scores {score.shape} and labels {np.shape(labels)} do not describe the same "
            "detections, expected [N, 2], [N] and [N]. Pass the detections of one video."
        )
    if not (score >= 0).all():
        raise ValueError(
            f"{int((~(score >= 0)).sum())} score(s) are negative or NaN. Suppression multiplies scores, so logits must "
            "go through a sigmoid first; NaN means that the model diverged."
        )
    # Scores only sink, so what starts below the limit can neither be kept nor suppress anything that is.
    alive = np.flatnonzero(score >= config.min_score)
    group = np.zeros(len(alive), np.int64) if config.class_agnostic else np.asarray(labels)[alive]
    if config.method == "none":
        row, score = alive, score[alive]
    else:
        row, score = _pick(times[alive], score[alive], group, config)
        row = alive[row]
    best = np.lexsort((row, -score))[: config.top_k]
    return Kept(row=row[best], score=score[best])


def _pick(
    segments: NDArray[np.float64], scores: NDArray[np.float64], group: NDArray[np.integer], config: NmsConfig
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pick the best of every group, weaken its neighbours, and again; return the picked rows and their scores.

    A group's picks have falling scores, so `top_k` picks of each group hold the `top_k` best of all.
    """
    grid, rows = _grid(group)
    start, end = segments[rows, 0], segments[rows, 1]  # [G, M]
    left = np.where(grid, scores[rows], -np.inf)  # [G, M] scores of what is still to be picked
    picked_rows, picked_scores = [np.empty(0, np.int64)], [np.empty(0)]
    for _ in range(min(config.top_k, grid.shape[1])):
        best = left.argmax(axis=1)[:, None]  # [G, 1]
        score = np.take_along_axis(left, best, axis=1)[:, 0]  # [G]
        alive = np.flatnonzero(score >= config.min_score)
        if len(alive) < len(score):  # groups that are exhausted leave the grid
            left, start, end, rows, best, score = (array[alive] for array in (left, start, end, rows, best, score))
        if not alive.size:
            break
        picked_rows.append(np.take_along_axis(rows, best, axis=1)[:, 0])
        picked_scores.append(score)
        np.put_along_axis(left, best, -np.inf, axis=1)
        tiou = _tiou_with(start, end, best)  # [G, M]
        if config.method == "soft":
            with np.errstate(over="ignore"):  # a sigma near 0 weighs every overlap with exp(-inf) = 0
                weight = np.exp(-(tiou**2) / config.sigma)
            np.multiply(left, weight, out=left, where=left > -np.inf)  # -inf, picked before, times 0 would be NaN
        else:
            left[tiou >= config.tiou] = -np.inf
    return np.concatenate(picked_rows), np.concatenate(picked_scores)


def _grid(group: NDArray[np.integer]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Lay the rows of G groups out as `[G, M]`, M the largest group: which cells are taken, and by which row."""
    _, member_of, sizes = np.unique(group, return_inverse=True, return_counts=True)
    grid = np.arange(sizes.max(initial=0)) < sizes[:, None]  # [G, M]
    rows = np.zeros(grid.shape, np.int64)
    rows[grid] = np.argsort(member_of, kind="stable")
    return grid, rows


def _tiou_with(start: NDArray[np.float64], end: NDArray[np.float64], best: NDArray[np.int64]) -> NDArray[np.float64]:
    """tIoU of each group's cells `[G, M]` with its cell `best` `[G, 1]`; 0 where the union is empty. Shape `[G, M]`."""
    best_start, best_end = np.take_along_axis(start, best, axis=1), np.take_along_axis(end, best, axis=1)
    overlap = (np.minimum(end, best_end) - np.maximum(start, best_start)).clip(min=0.0)
    union = (end - start) + (best_end - best_start) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
