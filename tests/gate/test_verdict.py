"""What the gate says of two detectors."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from tadscale.errors import UserError
from tadscale.gate.config import GateConfig
from tadscale.gate.evidence import Evidence, compare_detectors, fewest_videos
from tadscale.gate.verdict import Cost, Verdict, judge
from tadscale.metrics import evaluate_detections, paired_bootstrap
from tests.gate.drawn import detector, truth

TIOU = (0.3, 0.5)
SMALL = Cost(weights_bytes=1000, seconds_per_video_second=0.1)


def compare(challenger: np.ndarray | float, champion: np.ndarray | float, videos: int = 60) -> Evidence:
    random, ground_truth = np.random.default_rng(0), truth(videos)
    pair = [detector(ground_truth, recall, random) for recall in (challenger, champion)]
    return compare_detectors(*pair, ground_truth, TIOU, draws=300)


def verdict(evidence: Evidence, cost: Cost = SMALL, **settings: object) -> Verdict:
    return judge(evidence, GateConfig.model_validate(settings), challenger=cost, champion=SMALL)


@pytest.fixture(scope="module")
def better() -> Evidence:
    return compare(0.9, 0.4)


def test_the_figures_are_those_of_the_evaluation() -> None:
    random, ground_truth = np.random.default_rng(1), truth(40)
    one, other = (detector(ground_truth, recall, random) for recall in (0.8, 0.6))
    evidence = compare_detectors(one, other, ground_truth, TIOU, draws=400)
    plain = paired_bootstrap(one, other, ground_truth, TIOU, draws=400)
    assert evidence.overall.challenger == pytest.approx(evaluate_detections(one, ground_truth, TIOU).average)
    assert evidence.overall.champion == pytest.approx(evaluate_detections(other, ground_truth, TIOU).average)
    assert evidence.overall.low <= plain.low < plain.high <= evidence.overall.high
    assert evidence.overall.high - evidence.overall.low < 1.25 * (plain.high - plain.low)
    assert evidence.overall.worse_share == pytest.approx(1 - plain.better_share)
    per_class = evaluate_detections(one, ground_truth, TIOU).per_class.mean(axis=1)
    assert [one.challenger for one in evidence.classes] == pytest.approx(per_class.tolist())


def test_each_policy_decides_as_it_says(better: Evidence) -> None:
    worse = compare(0.4, 0.9)
    expected = {"better": (True, False), "not_worse": (True, False), "always": (True, True), "never": (False, False)}
    for policy, decisions in expected.items():
        settings: dict[str, object] = {"policy": policy, "margin": 0.05}
        assert tuple(verdict(one, **settings).promote for one in (better, worse)) == decisions, policy
    assert not verdict(better, policy="better", margin=0.9).promote
    assert "its lower end is not above +90.00 points" in verdict(better, margin=0.9).reasons[0]


def test_a_class_that_became_worse_is_named_though_the_whole_is_better() -> None:
    recall = np.tile([0.4, 0.95], 60)
    evidence = compare(recall, np.tile([0.9, 0.05], 60))
    [lost] = evidence.regressed
    assert lost.label == "jump" and lost.high < 0 and (lost.instances, lost.videos) == (60, 60)
    decided = verdict(evidence)
    assert decided.promote and [reason for reason in decided.reasons if "worse in the class jump" in reason]
    assert "run" not in decided.reasons[-1]


def test_a_class_in_a_handful_of_videos_is_not_called_worse() -> None:
    ground_truth = truth(5)
    random = np.random.default_rng(0)
    pair = [detector(ground_truth, recall, random) for recall in (0.0, 1.0)]
    assert not compare_detectors(*pair, ground_truth, TIOU, draws=200).regressed


def test_budgets_refuse_whatever_the_policy(better: Evidence) -> None:
    for policy in ("better", "always"):
        heavy = verdict(better, policy=policy, budgets={"weights_bytes": 999})
        assert not heavy.promote and heavy.reasons[0] == "the weights take 1000 bytes, more than the budget of 999"
        slow = verdict(better, policy=policy, budgets={"seconds_per_video_second": 0.05})
        assert not slow.promote and slow.reasons[0].startswith("a second of video takes 0.1 s")
        assert verdict(better, policy=policy, budgets={"weights_bytes": 1000, "seconds_per_video_second": 0.1}).promote
    with pytest.raises(ValueError, match="were not measured"):
        verdict(better, Cost(weights_bytes=1), budgets={"seconds_per_video_second": 1})


def test_too_few_videos_decide_nothing() -> None:
    """Five that all favour the challenger are no evidence at 95 %: chance alone gives that once in 32 times."""
    assert fewest_videos(0.95) == 6
    decided = verdict(compare(1.0, 0.0, videos=5))
    assert not decided.promote and "5 held-out videos cannot tell" in decided.reasons[0]
    with pytest.raises(UserError, match=r"1 video\(s\)"):
        compare(1.0, 0.0, videos=1)


def test_a_detector_is_not_better_than_itself() -> None:
    ground_truth = truth(20)
    same = detector(ground_truth, 0.6, np.random.default_rng(0))
    evidence = compare_detectors(same, same, ground_truth, TIOU, draws=100)
    assert (evidence.overall.low, evidence.overall.high, evidence.overall.worse_share) == (0, 0, 0)
    assert not verdict(evidence).promote and verdict(evidence, policy="not_worse", margin=0.01).promote


def test_the_verdict_is_plain_json(better: Evidence) -> None:
    document = json.loads(json.dumps(verdict(better).to_dict()))
    assert document["decision"] == "promote" and document["settings"]["policy"] == "better"
    overall = document["evidence"]["overall"]
    assert overall["difference"] == pytest.approx(overall["challenger"] - overall["champion"])
    assert [one["label"] for one in document["evidence"]["classes"]] == ["jump", "run"]
    assert document["cost"]["champion"] == {"weights_bytes": 1000, "seconds_per_video_second": 0.1}


def test_not_worse_without_a_margin_is_refused() -> None:
    with pytest.raises(ValidationError, match="policy not_worse needs a margin"):
        GateConfig(policy="not_worse")
