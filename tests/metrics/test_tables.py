"""Tables keep what they are given, in its order, and refuse what cannot be meant."""

import numpy as np
import pytest

from tadscale.metrics import DetectionTable, GroundTruth
from tadscale.segments import Detection, Segment


def detections() -> list[Detection]:
    rows = [("b", "run", 1.0, 2.5, 0.1), ("a", "jump", 0.0, 9.0, 0.7), ("b", "jump", 3.0, 3.0, 0.1)]
    return [Detection(video=v, label=k, start_s=s, end_s=e, score=p) for v, k, s, e, p in rows]


def test_detections_come_back_as_they_went_in() -> None:
    assert DetectionTable.from_detections(detections()).to_detections() == detections()
    assert DetectionTable.from_detections([]).to_detections() == []


def test_ground_truth_keeps_videos_without_instances_and_sorts_classes() -> None:
    truth = GroundTruth.from_segments({"b": [Segment("run", 0, 1), Segment("jump", 2, 3)], "empty": []})
    assert (truth.videos, truth.labels, len(truth)) == (("b", "empty"), ("jump", "run"), 2)
    assert truth.label.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.array([0.1, np.nan, 0.2])}, "score of row 1 is nan"),
        ({"segments_s": np.array([[0, 1], [0, np.inf], [0, 1]])}, "segments_s of row 1"),
        ({"label": np.array([0, 1, 2])}, "label holds indices from 0 to 2, but its vocabulary has 2"),
        ({"video": np.array([0, -1, 0])}, "video holds indices from -1"),
        ({"video": np.array([0, 1])}, r"video has shape \(2,\), expected \(3,\)"),
        ({"segments_s": np.zeros((3, 3))}, r"segments_s has shape \(3, 3\), expected \(3, 2\)"),
    ],
)
def test_impossible_columns_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    columns = vars(DetectionTable.from_detections(detections()))
    with pytest.raises(ValueError, match=message):
        DetectionTable(**{**columns, **change})
