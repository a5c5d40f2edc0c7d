"""How often the policies err, by simulation: the rates that their docstrings state."""

import numpy as np

from tadscale.gate.config import GateConfig
from tadscale.gate.evidence import compare_detectors
from tadscale.gate.policies import POLICIES
from tests.gate.drawn import detector, difficulty, truth

TIOU = (0.5,)


def promoted_share(config: GateConfig, gain: float, *, videos: int, trials: int, seed: int = 0) -> float:
    """How often a challenger is promoted whose recall is so much better, over held-out sets drawn anew."""
    random, ground_truth = np.random.default_rng(seed), truth(videos)
    promoted = 0
    for _ in range(trials):
        usual = 0.6 + difficulty(ground_truth, random)
        pair = [detector(ground_truth, usual + more, random) for more in (gain, 0)]
        evidence = compare_detectors(*pair, ground_truth, TIOU, confidence=config.confidence, draws=config.draws)
        promoted += POLICIES[config.policy](evidence, config)[0]
    return promoted / trials


def test_better_promotes_an_equal_detector_no_more_often_than_it_states() -> None:
    """A thousand times two detectors of equal worth on 20 videos. Binomial: at the 3.3 % that the docstring gives, more than
    5 % would come up in one of 600 such tests."""
    config = GateConfig(policy="better", confidence=0.95, draws=250)
    share = promoted_share(config, 0.0, videos=20, trials=1000)
    assert 0 < share <= 1 - config.confidence


def test_better_sees_a_detector_that_is_better() -> None:
    """Recall of 85 % instead of 60 % is 19 points of mAP here; with 100 videos it is seen nine times in ten."""
    assert promoted_share(GateConfig(draws=250), 0.25, videos=100, trials=60) >= 0.8


def test_not_worse_promotes_what_lacks_the_margin_no_more_often_than_it_states() -> None:
    """Recall of 35 % instead of 60 % costs 17 points here (4,000 videos)."""
    config = GateConfig(policy="not_worse", margin=0.17, draws=250)
    assert promoted_share(config, -0.25, videos=60, trials=200) <= 1 - config.confidence
    assert promoted_share(config.model_copy(update={"margin": 0.2}), 0.0, videos=60, trials=60) >= 0.7
