"""Slow loops that say what the fast code must give: written from the definitions, sharing no code with it."""

import numpy as np

from tadscale.metrics import DetectionTable, GroundTruth


def tiou(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union of two segments."""
    overlap = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - overlap
    return overlap / union if union > 0 else 0.0


def average_precisions(
    detections: DetectionTable, truth: GroundTruth, thresholds: tuple[float, ...], *, kind: str | None
) -> np.ndarray:
    """The ActivityNet protocol as a walk over detections, `[K, T]`; `kind` is numpy's name of the sort."""
    rows = [
        (
            detections.videos[detections.video[n]],
            detections.labels[detections.label[n]],
            tuple(detections.segments_s[n]),
            detections.score[n],
        )
        for n in range(len(detections))
    ]
    instances = [
        (truth.videos[truth.video[m]], truth.labels[truth.label[m]], tuple(truth.segments_s[m]))
        for m in range(len(truth))
    ]
    return np.array(
        [
            [
                _of_class([r for r in rows if r[1] == label], [i for i in instances if i[1] == label], threshold, kind)
                for threshold in thresholds
            ]
            for label in truth.labels
        ]
    )


def _of_class(rows: list, instances: list, threshold: float, kind: str | None) -> float:
    ranking = np.argsort(np.array([row[3] for row in rows]), kind=kind)[::-1]
    taken, found, precision, recall = set(), 0, [], []
    of_video: dict[str, list[int]] = {}
    for m, instance in enumerate(instances):
        of_video.setdefault(instance[0], []).append(m)
    for rank, n in enumerate(ranking, start=1):
        here = of_video.get(rows[n][0], [])
        overlaps = np.array([tiou(rows[n][2], instances[m][2]) for m in here])
        for choice in np.argsort(overlaps, kind="stable")[::-1]:
            if overlaps[choice] < threshold:
                break
            if here[choice] not in taken:
                taken.add(here[choice])
                found += 1
                break
        precision.append(found / rank)
        recall.append(found / len(instances))
    area, reached = 0.0, 0.0
    for rank, level in enumerate(recall):
        if level > reached:
            area += (level - reached) * max(precision[rank:])
            reached = level
    return area


def suppressed(
    segments: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    weight,
    same_class: bool,
    min_score: float,
    top_k: int,
) -> list[tuple[int, float]]:
    """Pick the best, multiply the score of each other by weight(tIoU), repeat; (row, score) by descending score."""
    left = {row: float(score) for row, score in enumerate(scores)}
    kept = []
    while left:
        best = max(left, key=lambda row: (left[row], -row))
        score = left.pop(best)
        if score < min_score:
            break
        kept.append((best, score))
        for row in left:
            if labels[row] == labels[best] or not same_class:
                left[row] *= weight(tiou(tuple(segments[best]), tuple(segments[row])))
    return kept[:top_k]
