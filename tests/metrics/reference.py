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


def walk(detections: DetectionTable, truth: GroundTruth, threshold: float) -> dict[int, list[tuple[int, int | None]]]:
    """The ActivityNet protocol: of each class its detections by descending score, and the instance that each found."""
    walked: dict[int, list[tuple[int, int | None]]] = {}
    for k, label in enumerate(truth.labels):
        rows = [n for n in range(len(detections)) if detections.labels[detections.label[n]] == label]
        rows.sort(key=lambda n: (-detections.score[n], -n))
        taken: set[int] = set()
        walked[k] = []
        for n in rows:
            choices = [
                (tiou(detections.segments_s[n], truth.segments_s[m]), m)
                for m in range(len(truth))
                if truth.label[m] == k and m not in taken and same_video(detections, n, truth, m)
            ]
            best = max(choices, default=(0.0, -1))
            found = best[1] if best[0] >= threshold else None
            taken.add(-1 if found is None else found)
            walked[k].append((n, found))
    return walked


def same_video(detections: DetectionTable, n: int, truth: GroundTruth, m: int) -> bool:
    """Whether a detection is on the video of an instance."""
    return detections.videos[detections.video[n]] == truth.videos[truth.video[m]]


def normalised_area(found: list[bool], instances: int, mean_instances: float) -> float:
    """AP_N of one class from its verdicts by rank, each recall level with the best precision from there on."""
    curve, hits = [], 0
    for rank, hit in enumerate(found, start=1):
        hits += hit
        scaled = hits / instances * mean_instances
        curve.append((hit, scaled / (scaled + rank - hits) if hits else 0.0))
    return sum(max(p for _, p in curve[at:]) / instances for at, (hit, _) in enumerate(curve) if hit)
