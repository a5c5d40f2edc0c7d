"""From what is new and what has drifted to a decision, with its reasons."""

from collections.abc import Sequence

from tadscale.config import Config
from tadscale.retrain.config import TriggerConfig
from tadscale.retrain.drift import Shift
from tadscale.retrain.profile import Change


class Decision(Config):
    """Whether to train again."""

    retrain: bool
    """Train."""
    reasons: tuple[str, ...]
    """Why, or why not."""
    new_videos: int = 0
    """Training videos that nothing was trained on."""
    known_videos: int = 0
    """Training videos that something was trained on."""
    gone_videos: int = 0
    """Videos that were trained on and are not there any more."""
    shifts: tuple[Shift, ...] = ()
    """Every test that was made."""


def decide(change: Change, shifts: Sequence[Shift], config: TriggerConfig) -> Decision:
    """Train if enough is new, or if what is new is of another kind."""
    new, share = len(change.new), change.fraction
    counted = f"{new} new training videos ({share:.1%} of {change.known + change.gone})"
    is_enough = new >= config.min_new_videos and share >= config.min_new_fraction
    moved = [shift for shift in shifts if shift.moved]
    if not new:
        reasons = [f"no training video is new ({change.known} known, {change.gone} gone)"]
    elif is_enough or moved:
        reasons = [counted, *map(str, moved)]
    else:
        wanted = f"{config.min_new_videos} and {config.min_new_fraction:.0%} would be enough"
        drift = f"nothing drifted in {len(shifts)} tests" if shifts else "too few to tell drift"
        reasons = [f"{counted}; {wanted}", drift]
    return Decision(
        retrain=bool(new) and (is_enough or bool(moved)),
        reasons=tuple(reasons),
        new_videos=new,
        known_videos=change.known,
        gone_videos=change.gone,
        shifts=tuple(shifts),
    )
