"""AR@AN against the protocol as nested loops, and by hand."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from tadscale.metrics import DetectionTable, GroundTruth
from tadscale.metrics.average_recall import average_recall
from tests.metrics.problems import found, random_problem, truth
from tests.metrics.reference import same_video, tiou


def slow_recall(detections: DetectionTable, ground_truth: GroundTruth, threshold: float) -> list[float]:
    """ActivityNet's protocol in exact fractions: recall at 1 to 100 proposals per video."""
    instances = {
        v: [m for m in range(len(ground_truth)) if ground_truth.video[m] == v] for v in set(ground_truth.video)
    }
    best = {}
    for v, of_video in instances.items():
        rows = [n for n in range(len(detections)) if same_video(detections, n, ground_truth, of_video[0])]
        rows.sort(key=lambda n: (-detections.score[n], -n))
        best[v] = rows[: min(floor(len(rows) * Fraction(100 * len(instances), len(detections))), len(rows))]
    total = sum(map(len, best.values()))
    recall = []
    for average in range(1, 101):
        hits = 0
        for v, of_video in instances.items():
            used = best[v][: floor(len(best[v]) * Fraction(average * len(instances), total))]
            hits += sum(
                any(tiou(detections.segments_s[n], ground_truth.segments_s[m]) >= threshold for n in used)
                for m in of_video
            )
        recall.append(hits / len(ground_truth))
    return recall


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("copies", [1, 12])  # fewer than 100 proposals a video on average, and more
def test_equals_the_protocol_as_loops(seed: int, copies: int) -> None:
    small, ground_truth = random_problem(seed)
    random = np.random.default_rng(seed)
    detections = DetectionTable(
        videos=small.videos,
        labels=small.labels,
        video=np.tile(small.video, copies),
        label=np.tile(small.label, copies),
        segments_s=random.uniform(0, 15, (len(small) * copies, 2)).cumsum(axis=1),
        score=random.integers(0, 50, len(small) * copies) / 50,
    )
    result = average_recall(detections, ground_truth, (0.2, 0.5))
    for threshold, recall in zip(result.tiou, result.recall, strict=True):
        np.testing.assert_allclose(recall, slow_recall(detections, ground_truth, threshold))


def test_a_video_uses_a_share_of_its_proposals() -> None:
    # Four proposals in two videos: an average of 1 is half of each, the best one of "v" and of "w".
    ground_truth = truth(v=[("jump", 0, 10), ("jump", 20, 30)], w=[("run", 0, 10)])
    rows = [("v", "run", 0, 10, 0.9), ("v", "run", 20, 30, 0.8), ("w", "run", 50, 60, 0.2), ("w", "run", 0, 10, 0.1)]
    result = average_recall(found(*rows), ground_truth, (0.5,))
    assert result.average[:3].tolist() == pytest.approx([1 / 3, 1, 1])
    assert result.area == pytest.approx((98 + (1 / 3 + 1) / 2) / 100)


def test_without_a_proposal_nothing_is_recalled() -> None:
    assert average_recall(found(), truth(v=[("jump", 0, 10)])).area == 0
    assert average_recall(found(("w", "jump", 0, 10, 1)), truth(v=[("jump", 0, 10)])).area == 0
