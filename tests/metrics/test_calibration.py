"""Scores against precision."""

import numpy as np
import pytest

from tadscale.metrics.calibration import calibration
from tests.metrics.problems import found, truth

TRUTH = truth(v=[("jump", 0, 10), ("jump", 20, 30), ("jump", 40, 50)])


def test_bins_and_their_error_by_hand() -> None:
    rows = [
        ("v", "jump", 0, 10, 1.0),  # right, in the last bin
        ("v", "jump", 20, 30, 0.92),  # right
        ("v", "jump", 20, 30, 0.94),  # right, before it: then the one above is not
        ("v", "jump", 60, 70, 0.04),  # wrong, in the first bin
        ("v", "swim", 60, 70, 0.5),  # of no class of the ground truth
    ]
    result = calibration(found(*rows), TRUTH)
    assert result is not None
    assert result.detections.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert result.precision[[0, 9]].tolist() == [0, pytest.approx(2 / 3)]
    assert np.isnan(result.precision[1:9]).all()
    assert result.error == pytest.approx((0.04 + 3 * (2.86 / 3 - 2 / 3)) / 4)


def test_scores_that_are_right_as_often_as_they_say_have_no_error() -> None:
    rows = [("v", "jump", 0, 10, 0.5), ("v", "jump", 60, 70, 0.5)]
    result = calibration(found(*rows), TRUTH)
    assert result is not None
    assert result.error == 0


def test_scores_beyond_1_are_no_probabilities() -> None:
    assert calibration(found(("v", "jump", 0, 10, 7.5)), TRUTH) is None
