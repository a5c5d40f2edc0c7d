"""Suppression against a loop that picks and weakens one detection at a time."""

import math

import numpy as np
import pytest

from tadscale.metrics import NmsConfig, suppress
from tests.metrics.reference import suppressed


def random_detections(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    start = random.uniform(0, 40, count)
    segments = np.stack([start, start + random.exponential(6, count)], axis=1)
    return segments, random.uniform(size=count), random.integers(4, size=count) * 7 - 3


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("method", ["soft", "hard"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_loop(seed: int, method: str, class_agnostic: bool) -> None:
    segments, scores, labels = random_detections(seed)
    config = NmsConfig(method=method, sigma=0.4, tiou=0.3, class_agnostic=class_agnostic, min_score=0.05, top_k=25)
    weights = {"soft": lambda t: math.exp(-(t**2) / 0.4), "hard": lambda t: float(t < 0.3)}
    slow = suppressed(
        segments,
        scores,
        labels,
        weight=weights[method],
        same_class=not class_agnostic,
        min_score=0.05,
        top_k=25,
    )
    kept = suppress(segments, scores, labels, config)
    assert kept.row.tolist() == [row for row, _ in slow]
    np.testing.assert_allclose(kept.score, [score for _, score in slow], rtol=1e-12)


def test_hard_removes_at_the_threshold_and_keeps_below() -> None:
    segments, scores, labels = np.array([[0, 10], [0, 5], [0, 4.9]]), np.array([0.9, 0.8, 0.7]), np.zeros(3, int)
    assert suppress(segments, scores, labels, NmsConfig(method="hard", tiou=0.5)).row.tolist() == [0, 2]


def test_soft_lowers_by_the_gaussian_and_keeps_the_row() -> None:
    segments, scores, labels = np.array([[0, 10], [0, 5], [50, 60]]), np.array([0.9, 0.8, 0.1]), np.zeros(3, int)
    kept = suppress(segments, scores, labels, NmsConfig(sigma=0.5))
    assert kept.row.tolist() == [0, 1, 2]
    np.testing.assert_allclose(kept.score, [0.9, 0.8 * math.exp(-0.25 / 0.5), 0.1])


def test_none_ranks_and_cuts() -> None:
    segments, scores, labels = random_detections(0)
    kept = suppress(segments, scores, labels, NmsConfig(method="none", min_score=0.5, top_k=3))
    assert kept.row.tolist() == np.argsort(-scores)[:3].tolist()
    assert kept.score.tolist() == np.sort(scores)[::-1][:3].tolist()


def test_equal_scores_keep_the_order_of_rows() -> None:
    segments = np.array([[0, 1], [10, 11], [20, 21], [30, 31]], float)
    for method in ("soft", "hard", "none"):
        kept = suppress(segments, np.full(4, 0.5), np.array([2, 1, 2, 1]), NmsConfig(method=method))
        assert kept.row.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["soft", "hard", "none"])
def test_nothing_in_nothing_out(method: str) -> None:
    kept = suppress(np.empty((0, 2)), np.empty(0), np.empty(0, int), NmsConfig(method=method))
    assert kept.row.shape == kept.score.shape == (0,)
    low = suppress(np.array([[0.0, 1.0]]), np.array([0.01]), np.array([0]), NmsConfig(method=method, min_score=0.5))
    assert low.row.shape == (0,)


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_logits_and_nan_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="negative or NaN"):
        suppress(np.zeros((2, 2)), np.array([0.5, bad]), np.zeros(2, int), NmsConfig())


def test_arrays_of_different_detections_are_refused() -> None:
    with pytest.raises(ValueError, match="do not describe the same"):
        suppress(np.zeros((3, 2)), np.zeros(2), np.zeros(2, int), NmsConfig())


@pytest.mark.parametrize("sigma", [5e-324, 1e-300, 1e-6, 1e-3])
def test_a_very_small_sigma_removes_what_overlaps_and_nothing_else(sigma: float) -> None:
    """exp(-tIoU^2 / sigma) is 0 there, and minus infinity, which stands for "picked", times 0 is no number."""
    start = np.arange(0, 60, 2.0)  # each overlaps its neighbours by more than half
    segments, scores = np.stack([start, start + 8], axis=1), np.linspace(0.9, 0.3, 30)
    labels = np.arange(30) % 2
    kept = suppress(segments, scores, labels, NmsConfig(sigma=sigma, min_score=0.01))
    slow = suppressed(
        segments,
        scores,
        labels,
        weight=lambda t: 1.0 if t == 0 else 0.0,
        same_class=True,
        min_score=0.01,
        top_k=200,
    )
    assert kept.row.tolist() == [row for row, _ in slow]
    assert len(kept.row) == 16


@pytest.mark.parametrize("limit", [-0.1, 1.0, math.nan])
def test_a_least_score_that_no_score_can_have_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="min_score"):
        NmsConfig(min_score=limit)
