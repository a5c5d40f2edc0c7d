"""The bootstrap must see a difference that is there, and none where there is none."""

import numpy as np
import pytest

from tadscale.metrics import DetectionTable, GroundTruth, evaluate_detections, paired_bootstrap
from tadscale.segments import Detection, Segment

VIDEOS = 40


def truth() -> GroundTruth:
    return GroundTruth.from_segments({f"v{n}": [Segment("jump", 0, 10), Segment("run", 20, 30)] for n in range(VIDEOS)})


def detector(recall: float, seed: int) -> DetectionTable:
    """Finds a share of the instances, and something wrong in every video."""
    random = np.random.default_rng(seed)
    rows = []
    for n in range(VIDEOS):
        for label, start_s in (("jump", 0.0), ("run", 20.0)):
            place = start_s if random.uniform() < recall else start_s + 100
            rows.append(
                Detection(video=f"v{n}", label=label, start_s=place, end_s=place + 10, score=float(random.uniform()))
            )
    return DetectionTable.from_detections(rows)


def test_a_clear_difference_is_outside_zero() -> None:
    better, worse = detector(0.9, 0), detector(0.4, 1)
    answer = paired_bootstrap(better, worse, truth(), draws=200)
    assert answer.challenger == pytest.approx(evaluate_detections(better, truth()).average)
    assert answer.champion == pytest.approx(evaluate_detections(worse, truth()).average)
    assert 0 < answer.low < answer.difference < answer.high
    assert answer.better_share == 1.0


def test_a_detector_does_not_differ_from_itself() -> None:
    same = detector(0.6, 2)
    answer = paired_bootstrap(same, same, truth(), draws=50)
    assert (answer.low, answer.high, answer.better_share) == (0.0, 0.0, 0.0)


def test_equal_detectors_cannot_be_told_apart() -> None:
    answer = paired_bootstrap(detector(0.6, 3), detector(0.6, 4), truth(), draws=200)
    assert answer.low < 0 < answer.high


def test_interval_is_as_wide_as_that_of_slow_resampling() -> None:
    """Scoring renamed copies of the drawn videos gives the same spread as re-weighting verdicts."""
    first, second = detector(0.7, 5), detector(0.6, 6)
    fast = paired_bootstrap(first, second, truth(), draws=2000, confidence=0.8)
    random = np.random.default_rng(1)
    slow = []
    for _ in range(400):
        drawn = random.integers(VIDEOS, size=VIDEOS)
        sample = GroundTruth.from_segments(
            {f"d{k}": [Segment("jump", 0, 10), Segment("run", 20, 30)] for k in range(VIDEOS)}
        )
        slow.append(
            evaluate_detections(_renamed(first, drawn), sample).average
            - evaluate_detections(_renamed(second, drawn), sample).average
        )
    low, high = np.quantile(slow, [0.1, 0.9])
    width = high - low
    assert fast.low == pytest.approx(low, abs=0.12 * width)
    assert fast.high == pytest.approx(high, abs=0.12 * width)


def _renamed(table: DetectionTable, drawn: np.ndarray) -> DetectionTable:
    by_video: dict[str, list[Detection]] = {}
    for row in table.to_detections():
        by_video.setdefault(row.video, []).append(row)
    return DetectionTable.from_detections(
        Detection(video=f"d{k}", label=row.label, start_s=row.start_s, end_s=row.end_s, score=row.score)
        for k, video in enumerate(drawn)
        for row in by_video[f"v{video}"]
    )


def test_the_seed_decides() -> None:
    first, second = detector(0.7, 5), detector(0.6, 6)
    answers = [paired_bootstrap(first, second, truth(), draws=30, seed=seed) for seed in (0, 0, 1)]
    assert answers[0] == answers[1] != answers[2]


def test_a_single_video_is_refused() -> None:
    one = GroundTruth.from_segments({"v0": [Segment("jump", 0, 10)]})
    with pytest.raises(ValueError, match="1 video"):
        paired_bootstrap(detector(1, 0), detector(1, 0), one)
