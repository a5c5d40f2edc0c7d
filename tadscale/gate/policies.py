"""The policies by which a challenger becomes champion, and how often each of them errs.

All rates are over the choice of the held-out videos, for two detectors that were trained without them, and for one
decision. Of ten challengers that are no better one is promoted with up to ten times the rate: who decides often asks for
more confidence. A seed is not among what is left to chance: another training of the same job is another challenger.
"""

from collections.abc import Callable, Mapping

from tadscale.gate.config import GateConfig, Policy
from tadscale.gate.evidence import Evidence, fewest_videos

Opinion = tuple[bool, str]
"""Whether to promote, and why, in words."""


def better(evidence: Evidence, config: GateConfig) -> Opinion:
    """Promote when the interval of the difference lies above `margin`.

    A challenger that is no better than that is promoted in (1 - confidence) / 2 of all cases with many videos and in at most
    1 - confidence with 20 or more (tests/gate/test_error_rates.py; of 1,000 trials with 20, 40 and 80 videos 3.3, 3.0 and
    3.1 % at 95 %). How often one that is better stays out depends on the videos; the width of the interval tells.
    """
    return _lower_end_above(config.margin, evidence)


def not_worse(evidence: Evidence, config: GateConfig) -> Opinion:
    """Promote when the interval of the difference lies above `-margin`.

    A challenger that is worse by `margin` or more is promoted as rarely as `better` promotes one that is no better; one that
    is worse by less may be, and after many such promotions the sum may be more than `margin`.
    """
    return _lower_end_above(-config.margin, evidence)


def always(evidence: Evidence, config: GateConfig) -> Opinion:
    """Promote. A challenger that is worse is promoted in 100 % of all cases."""
    return True, "the policy is always: what the comparison says is for the record"


def never(evidence: Evidence, config: GateConfig) -> Opinion:
    """Leave it to somebody. A challenger that is worse is promoted in 0 % of all cases, and so is one that is better."""
    return False, "the policy is never: what the comparison says is for the record, and promoting is done by hand"


POLICIES: Mapping[Policy, Callable[[Evidence, GateConfig], Opinion]] = {
    "better": better,
    "not_worse": not_worse,
    "always": always,
    "never": never,
}
"""By the names that settings have for them."""


def _lower_end_above(bound: float, evidence: Evidence) -> Opinion:
    if not evidence.enough_videos:
        fewest = fewest_videos(evidence.confidence)
        return False, (
            f"{evidence.videos} held-out videos cannot tell detectors apart at {evidence.confidence:.0%} confidence: it "
            f"takes {fewest} at the very least"
        )
    overall = evidence.overall
    passed = overall.low > bound
    side = "above" if passed else "not above"
    return passed, (
        f"average mAP differs by {_points(overall.difference)}, {evidence.confidence:.0%} interval "
        f"{_points(overall.low)} to {_points(overall.high)}: its lower end is {side} {_points(bound)}"
    )


def _points(value: float) -> str:
    return f"{100 * value:+.2f} points"
