"""How the gate decides."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from tadscale.config import Config

Policy = Literal["better", "not_worse", "always", "never"]
"""See `tadscale.gate.policies`, where each states its error rates."""


class BudgetConfig(Config):
    """What a challenger may cost; it is refused above, whatever the policy."""

    weights_bytes: PositiveInt | None = None
    """Largest size of the exported weights."""
    seconds_per_video_second: PositiveFloat | None = None
    """Longest time that a second of video may take, decoding included, in one process on the machine that decides."""


class GateConfig(Config):
    """When a challenger becomes champion."""

    policy: Policy = "better"
    """`better`: when it is shown to be better. `not_worse`: when it is shown to be no more than `margin` worse. `always` and
    `never`: the comparison is for the record."""
    margin: float = Field(default=0.0, ge=0, lt=1)
    """Average mAP, in [0, 1]: by how much it must be better, or may be worse."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """Of the two-sided interval of the difference."""
    draws: int = Field(default=2000, ge=100)
    """Resampled sets of the held-out videos."""
    budgets: BudgetConfig = BudgetConfig()
    """What the challenger may cost."""

    @model_validator(mode="after")
    def _not_worse_has_a_margin(self) -> "GateConfig":
        if self.policy == "not_worse" and not self.margin:
            raise ValueError(
                "policy not_worse needs a margin: how much average mAP, in [0, 1], a challenger may lack; 0.01 is one "
                "point. Without any it would be the policy better"
            )
        return self
