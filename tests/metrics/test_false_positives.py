"""The profile of errors: each kind on a case worked by hand, and all of them against a slow loop."""

import numpy as np
import pytest

from tadscale.metrics import DetectionTable, GroundTruth
from tadscale.metrics.average_precision import match_detections
from tadscale.metrics.false_positives import ERRORS, RANKS, Verdict, false_positives, verdicts
from tests.metrics.problems import found, random_problem, truth
from tests.metrics.reference import normalised_area, same_video, tiou, walk

TIOU = (0.25, 0.5, 1.0)


def slow_verdict(detections: DetectionTable, n: int, match: int | None, ground_truth: GroundTruth, alpha: float) -> str:
    """DETAD's definitions, read aloud."""
    if match is not None:
        return "TRUE_POSITIVE"
    here = [m for m in range(len(ground_truth)) if same_video(detections, n, ground_truth, m)]
    overlap = {m: tiou(detections.segments_s[n], ground_truth.segments_s[m]) for m in here}
    best = max(overlap.values(), default=0.0)
    if best < 0.1:
        return "BACKGROUND"
    label = detections.labels[detections.label[n]]
    agrees = any(overlap[m] == best and ground_truth.labels[ground_truth.label[m]] == label for m in here)
    if best >= alpha:
        return "DOUBLE_DETECTION" if agrees else "WRONG_LABEL"
    return "LOCALISATION" if agrees else "CONFUSION"


@pytest.mark.parametrize("seed", range(8))
def test_profile_and_gains_equal_the_slow_loop(seed: int) -> None:
    detections, ground_truth = random_problem(seed)
    result = false_positives(match_detections(detections, ground_truth, TIOU, "stable"), detections, ground_truth)
    count, areas = np.zeros((RANKS, len(Verdict))), {error: [] for error in (None, *ERRORS)}
    for alpha in TIOU:
        for k, of_class in walk(detections, ground_truth, alpha).items():
            instances = int((ground_truth.label == k).sum())
            ranked = of_class[: RANKS * instances]
            named = [Verdict[slow_verdict(detections, n, match, ground_truth, alpha)] for n, match in ranked]
            for rank, verdict in enumerate(named):
                count[rank // instances, verdict] += 1 / len(TIOU)
            for error in areas:
                left = [verdict == Verdict.TRUE_POSITIVE for verdict in named if verdict != error]
                mean = len(ground_truth) / len(ground_truth.labels)
                areas[error].append(normalised_area(left, instances, mean))
    np.testing.assert_allclose(result.detections, count.sum(axis=1))
    np.testing.assert_allclose(result.share * result.detections[:, None], count, atol=1e-12)
    base = np.mean(areas[None])
    assert result.normalised_map == pytest.approx(base)
    np.testing.assert_allclose(result.gain, [np.mean(areas[error]) - base for error in ERRORS], atol=1e-12)


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (("v", "jump", 0, 8, 0.5), Verdict.DOUBLE_DETECTION),
        (("v", "run", 0, 8, 0.5), Verdict.WRONG_LABEL),
        (("v", "jump", 7, 12, 0.5), Verdict.LOCALISATION),
        (("v", "run", 7, 12, 0.5), Verdict.CONFUSION),
        (("v", "jump", 10, 12, 0.5), Verdict.BACKGROUND),
        (("elsewhere", "jump", 0, 10, 0.5), Verdict.BACKGROUND),
        (("v", "dive", 40, 50, 0.5), Verdict.DOUBLE_DETECTION),  # as much "cliff dive": its own class decides
    ],
)
def test_each_error(row: tuple[str, str, float, float, float], verdict: Verdict) -> None:
    ground_truth = truth(v=[("jump", 0, 10), ("run", 100, 110), ("cliff dive", 40, 50), ("dive", 40, 50)])
    detections = found(row, ("v", "jump", 0, 10, 0.9), ("v", "dive", 40, 50, 0.9))
    matches = match_detections(detections, ground_truth, (0.5,))
    [place] = np.flatnonzero(matches.row == 0)
    assert verdicts(matches, detections, ground_truth)[0, place] == verdict


def test_removing_the_only_error_makes_the_detector_perfect() -> None:
    ground_truth = truth(v=[("jump", 0, 10)])
    detections = found(("v", "jump", 50, 60, 0.9), ("v", "jump", 0, 10, 0.8))
    result = false_positives(match_detections(detections, ground_truth, (0.5,)), detections, ground_truth)
    assert result.normalised_map == 0.5
    assert result.gain.tolist() == [0, 0, 0, 0, 0.5]
    assert result.detections.tolist() == [1, 1] + [0] * 8  # one instance: the second is in the second G
    assert result.share[:3].argmax(axis=1).tolist() == [Verdict.BACKGROUND, Verdict.TRUE_POSITIVE, 0]
