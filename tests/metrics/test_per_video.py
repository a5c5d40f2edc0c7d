"""The order in which a list of examples stands."""

import numpy as np
import pytest

from tadscale.metrics.average_precision import match_detections
from tadscale.metrics.per_video import precision_by_video
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.segments import Detection, Segment

TRUTH = GroundTruth.from_segments(
    {
        "found": [Segment("run", 0, 10), Segment("jump", 20, 30)],
        "late": [Segment("run", 0, 10)],
        "missed": [Segment("jump", 0, 10)],
        "empty": [],
    }
)


def seen(video: str, label: str, start_s: float, score: float) -> Detection:
    return Detection(video=video, label=label, start_s=start_s, end_s=start_s + 10, score=score)


def precision(*rows: Detection) -> dict[str, float]:
    table = DetectionTable.from_detections(rows)
    matches = match_detections(table, TRUTH, [0.5, 0.9], ties="stable")
    return dict(zip(TRUTH.videos, precision_by_video(matches, table, TRUTH).tolist(), strict=True))


def test_a_surer_false_alarm_of_another_class_counts() -> None:
    values = precision(
        seen("found", "run", 0, 0.9),
        seen("found", "jump", 20, 0.8),
        seen("late", "jump", 50, 0.9),  # false, and surer than the hit of its video
        seen("late", "run", 0, 0.3),
        seen("missed", "jump", 40, 0.9),
        seen("empty", "run", 0, 0.9),
    )
    assert values["found"] == 1.0 and values["late"] == 0.5 and values["missed"] == 0.0
    assert np.isnan(values["empty"])


def test_it_is_the_mean_over_thresholds() -> None:
    # 2 s late: tIoU 8 / 12 passes .5 and not .9
    assert precision(seen("late", "run", 2, 0.5))["late"] == pytest.approx(0.5)


def test_a_video_that_was_never_detected_in_is_as_hard_as_can_be() -> None:
    assert precision(seen("found", "run", 0, 0.9)) == pytest.approx(
        {"found": 0.5, "late": 0.0, "missed": 0.0, "empty": np.nan}, nan_ok=True
    )
