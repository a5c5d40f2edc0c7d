"""mAP_N against a slow walk, and where it must equal plain mAP."""

import numpy as np
import pytest

from tadscale.metrics import evaluate_detections
from tadscale.metrics.average_precision import match_detections
from tadscale.metrics.normalised import mean_instances, normalised_average_precision
from tests.metrics.problems import found, random_problem, truth
from tests.metrics.reference import normalised_area, walk

TIOU = (0.25, 0.5, 1.0)


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_walk_over_detections(seed: int) -> None:
    detections, ground_truth = random_problem(seed)
    result = normalised_average_precision(match_detections(detections, ground_truth, TIOU, "stable"), ground_truth)
    mean = len(ground_truth) / len(ground_truth.labels)
    slow = [
        [
            normalised_area([m is not None for _, m in of_class], int((ground_truth.label == k).sum()), mean)
            for k, of_class in walk(detections, ground_truth, threshold).items()
        ]
        for threshold in TIOU
    ]
    np.testing.assert_allclose(result.T, slow, rtol=0, atol=1e-12)


def test_is_plain_average_precision_where_classes_are_equally_frequent() -> None:
    ground_truth = truth(v=[("jump", 0, 10), ("jump", 20, 30), ("run", 0, 10), ("run", 50, 60)])
    detections = found(("v", "jump", 40, 45, 0.9), ("v", "jump", 0, 10, 0.8), ("v", "run", 50, 60, 0.1))
    result = normalised_average_precision(match_detections(detections, ground_truth, TIOU), ground_truth)
    np.testing.assert_allclose(result, evaluate_detections(detections, ground_truth, TIOU).per_class)


def test_precision_is_that_of_a_class_of_mean_frequency() -> None:
    # N = 2. The one "run" is found behind a false positive: 1 * 2 / (1 * 2 + 1), where plain precision is 1/2.
    ground_truth = truth(v=[("jump", 0, 10), ("jump", 20, 30), ("jump", 40, 50), ("run", 0, 10)])
    detections = found(("v", "run", 70, 80, 0.9), ("v", "run", 0, 10, 0.8))
    assert mean_instances(ground_truth) == 2
    result = normalised_average_precision(match_detections(detections, ground_truth, (0.5,)), ground_truth)
    assert result[:, 0].tolist() == [0.0, pytest.approx(2 / 3)]
