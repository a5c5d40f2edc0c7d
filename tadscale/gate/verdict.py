"""The gate's decision with all that it rests on."""

from dataclasses import asdict, dataclass
from typing import Any

from tadscale.gate.config import BudgetConfig, GateConfig
from tadscale.gate.evidence import Evidence
from tadscale.gate.policies import POLICIES


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a detector takes."""

    weights_bytes: int
    """Size of its exported weights."""
    seconds_per_video_second: float | None = None
    """Time that a second of video takes in one process, decoding included; None where nobody asked."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a challenger is to be champion, and why."""

    promote: bool
    reasons: tuple[str, ...]
    """In words, what decided first."""
    config: GateConfig
    """By which it was decided."""
    evidence: Evidence
    challenger: Cost
    champion: Cost

    @property
    def decision(self) -> str:
        """In a word."""
        return "promote" if self.promote else "refuse"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for JSON."""
        return {
            "decision": self.decision,
            "reasons": list(self.reasons),
            "settings": self.config.model_dump(mode="json"),
            "evidence": self.evidence.to_dict(),
            "cost": {"challenger": asdict(self.challenger), "champion": asdict(self.champion)},
        }


def judge(evidence: Evidence, config: GateConfig, *, challenger: Cost, champion: Cost) -> Verdict:
    """Decide by the policy and the budgets, both of which must agree to a promotion.

    Raises:
        ValueError: a budget of time is set, and the challenger's time was not measured.
    """
    promote, why = POLICIES[config.policy](evidence, config)
    exceeded = _exceeded(challenger, config.budgets)
    regressed = [
        f"worse in the class {one.label}: {100 * one.champion:.1f} to {100 * one.challenger:.1f} %, difference "
        f"{100 * one.low:+.1f} to {100 * one.high:+.1f} points"
        for one in evidence.regressed
    ]
    return Verdict(
        promote=promote and not exceeded,
        reasons=(*exceeded, why, *regressed),
        config=config,
        evidence=evidence,
        challenger=challenger,
        champion=champion,
    )


def _exceeded(cost: Cost, budgets: BudgetConfig) -> list[str]:
    found = []
    if budgets.weights_bytes is not None and cost.weights_bytes > budgets.weights_bytes:
        found.append(f"the weights take {cost.weights_bytes} bytes, more than the budget of {budgets.weights_bytes}")
    limit, takes = budgets.seconds_per_video_second, cost.seconds_per_video_second
    if limit is not None:
        if takes is None:
            raise ValueError("a budget of seconds per video second is set, and the challenger's were not measured")
        if takes > limit:
            found.append(f"a second of video takes {takes:.3g} s, more than the budget of {limit:g}")
    return found
