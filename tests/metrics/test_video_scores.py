"""Detections times what is in their video."""

import numpy as np
import pytest

from tadscale.metrics.video_scores import VideoScores, with_video_scores
from tests.metrics.problems import found

SCORES = VideoScores(
    videos=("v", "w"), labels=("jump", "run", "swim"), score=np.array([[0.5, 0.1, 0.4], [0.0, 0.2, 0.8]])
)


def rows(table) -> list[tuple]:
    return [(row.video, row.label, row.start_s, pytest.approx(row.score)) for row in table.to_detections()]


def test_proposals_become_detections_of_the_best_classes() -> None:
    detections = found(("v", "proposal", 0, 10, 0.8), ("w", "proposal", 5, 9, 0.5))
    assert rows(with_video_scores(detections, SCORES, 2)) == [
        ("v", "jump", 0, 0.4),
        ("v", "swim", 0, 0.32),
        ("w", "swim", 5, 0.4),
        ("w", "run", 5, 0.1),
    ]


def test_detections_of_a_class_keep_it_if_it_is_among_the_best() -> None:
    detections = found(("v", "swim", 0, 10, 0.5), ("v", "run", 0, 10, 0.9), ("w", "run", 1, 2, 1.0))
    assert rows(with_video_scores(detections, SCORES, 2)) == [("v", "swim", 0, 0.2), ("w", "run", 1, 0.2)]


def test_more_classes_than_there_are_is_all_of_them() -> None:
    assert len(with_video_scores(found(("v", "proposal", 0, 10, 0.8)), SCORES, 9)) == 3


def test_a_class_that_was_not_scored_is_none_of_the_best() -> None:
    """A file of the classification task may name one class a video; `w` has no score of `jump`."""
    assert [label for _, label, *_ in rows(with_video_scores(found(("w", "proposal", 0, 10, 0.8)), SCORES, 9))] == [
        "swim",
        "run",
    ]
    assert len(with_video_scores(found(("w", "jump", 0, 10, 0.8)), SCORES, 9)) == 0


def test_videos_without_scores_and_half_known_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 of the videos .* \['x'\]"):
        with_video_scores(found(("x", "jump", 0, 1, 0.5)), SCORES, 2)
    with pytest.raises(ValueError, match=r"others are not: \['Jump'\]"):
        with_video_scores(found(("v", "Jump", 0, 1, 0.5), ("v", "run", 0, 1, 0.5)), SCORES, 2)


def test_classes_that_are_spelt_otherwise_throughout_are_no_proposals() -> None:
    with pytest.raises(
        ValueError, match=r"None of the detections' 2 classes .*\['Jump', 'Run'\] there, \['jump', 'run'"
    ):
        with_video_scores(found(("v", "Jump", 0, 1, 0.5), ("v", "Run", 0, 1, 0.5)), SCORES, 2)
