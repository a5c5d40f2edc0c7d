"""How fast mAP is computed here, against a pandas evaluator written the way public ones are. Same run, same figures.

    python benchmarks/score.py DETECTIONS GROUND_TRUTH [SUBSET]
    python benchmarks/score.py                                   # a synthetic set of THUMOS14's size

The pandas evaluator follows the structure of the ActivityNet challenge's eval_detection (one data frame per class, a
walk over its rows, a group lookup per row); it is written anew here, and it also checks our figures.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import pandas as pd
from rich.console import Console

from tadscale.data.annotations import ground_truth_table, parse_ground_truth, read_detections, read_document
from tadscale.metrics import THUMOS14_TIOU, DetectionTable, GroundTruth, evaluate_detections

Result = TypeVar("Result")
REPEATS = 7
VIDEOS, CLASSES, INSTANCES, DETECTIONS = 210, 20, 3311, 42_400


def frames(detections: DetectionTable, truth: GroundTruth) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables as data frames with names in their cells."""

    def frame(table: DetectionTable | GroundTruth) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "video": np.array(table.videos, object)[table.video],
                "label": np.array(table.labels, object)[table.label],
                "start": table.segments_s[:, 0],
                "end": table.segments_s[:, 1],
            }
        )

    predicted = frame(detections)
    predicted["score"] = detections.score
    return predicted, frame(truth)


def pandas_map(predicted: pd.DataFrame, annotated: pd.DataFrame, tiou: tuple[float, ...]) -> np.ndarray:
    """mAP at each threshold, `[T]`."""
    by_label = predicted.groupby("label")
    rows = []
    for label, instances in annotated.groupby("label"):
        if label not in by_label.groups:
            rows.append(np.zeros(len(tiou)))
            continue
        ranked = by_label.get_group(label).reset_index(drop=True)
        ranked = ranked.loc[ranked["score"].to_numpy().argsort()[::-1]].reset_index(drop=True)
        rows.append(_class_ap(ranked, instances.reset_index(drop=True), tiou))
    return np.mean(rows, axis=0)


def _class_ap(ranked: pd.DataFrame, instances: pd.DataFrame, tiou: tuple[float, ...]) -> np.ndarray:
    found = np.zeros((len(tiou), len(ranked)))
    taken = np.zeros((len(tiou), len(instances)), bool)
    by_video = instances.groupby("video")
    for place, row in ranked.iterrows():
        if row["video"] not in by_video.groups:
            continue
        here = by_video.get_group(row["video"]).reset_index()
        overlaps = _overlaps(row, here)
        for index, threshold in enumerate(tiou):
            for candidate in overlaps.argsort()[::-1]:
                if overlaps[candidate] < threshold:
                    break
                instance = here.loc[candidate, "index"]
                if not taken[index, instance]:
                    taken[index, instance] = True
                    found[index, place] = 1
                    break
    recall = found.cumsum(axis=1) / len(instances)
    precision = found.cumsum(axis=1) / np.arange(1, len(ranked) + 1)
    return np.array([_area(p, r) for p, r in zip(precision, recall, strict=True)])


def _overlaps(row: pd.Series, here: pd.DataFrame) -> np.ndarray:
    start, end = here["start"].to_numpy(), here["end"].to_numpy()
    overlap = (np.minimum(end, row["end"]) - np.maximum(start, row["start"])).clip(0)
    return overlap / ((end - start) + (row["end"] - row["start"]) - overlap)


def _area(precision: np.ndarray, recall: np.ndarray) -> float:
    area, best, later = 0.0, 0.0, recall[-1]
    for p, r in zip(precision[::-1], recall[::-1], strict=True):
        area += (later - r) * best
        best, later = max(best, p), r
    return area + later * best


def synthetic() -> tuple[DetectionTable, GroundTruth]:
    """Random instances, and detections scattered about them, of THUMOS14's size."""
    random = np.random.default_rng(0)
    names = (
        tuple(f"video_{index:04d}" for index in range(VIDEOS)),
        tuple(f"class_{index:02d}" for index in range(CLASSES)),
    )
    video = random.integers(VIDEOS, size=INSTANCES)
    label = (video + random.integers(2, size=INSTANCES)) % CLASSES  # one or two classes a video, as in THUMOS14
    start = random.uniform(0, 200, INSTANCES)
    segments = np.stack([start, start + random.exponential(5, INSTANCES)], axis=1).round(1)
    truth = GroundTruth(videos=names[0], labels=names[1], video=video, label=label, segments_s=segments)
    near = random.integers(INSTANCES, size=DETECTIONS)
    moved = np.sort(segments[near] + random.normal(0, 1.5, (DETECTIONS, 2)), axis=1)
    return DetectionTable(
        videos=names[0],
        labels=names[1],
        video=video[near],
        label=label[near],
        segments_s=moved,
        score=random.uniform(size=DETECTIONS),
    ), truth


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """A result and the seconds it took."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def lines(arguments: list[str]) -> Iterator[str]:
    """Run it all; one line of report after the other."""
    if arguments:
        subset = arguments[2] if len(arguments) > 2 else "test"
        (detections, truth), seconds = timed(
            lambda: (
                read_detections(arguments[0]),
                ground_truth_table(
                    parse_ground_truth(read_document(arguments[1]).content, arguments[1]), subset, arguments[1]
                ),
            )
        )
        yield f"read and check both files   {seconds:8.3f} s"
    else:
        detections, truth = synthetic()
    sizes = len(detections), len(truth), len(truth.labels), len(truth.videos)
    yield "{} detections; {} instances of {} classes in {} videos".format(*sizes)
    runs = [timed(lambda: evaluate_detections(detections, truth)) for _ in range(REPEATS)]
    ours, seconds = runs[0][0].per_tiou, float(np.median([run[1] for run in runs]))
    yield f"tadscale                    {seconds:8.3f} s   (median of {REPEATS})"
    both = frames(detections, truth)
    theirs, slow = timed(lambda: pandas_map(*both, THUMOS14_TIOU))
    yield f"pandas, row by row          {slow:8.3f} s   (once; data frames ready)"
    yield f"ratio                       {slow / seconds:8.0f}"
    yield f"mAP @{list(THUMOS14_TIOU)}: {ours.round(6).tolist()}, average {ours.mean():.6f}"
    yield f"largest difference from the pandas evaluator: {np.abs(ours - theirs).max():.1e}"


if __name__ == "__main__":
    console = Console(highlight=False, width=140)
    for line in lines(sys.argv[1:]):
        console.print(line, markup=False)
