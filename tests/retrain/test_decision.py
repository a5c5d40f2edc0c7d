import pytest

from tadscale.retrain.config import TriggerConfig
from tadscale.retrain.decision import decide
from tadscale.retrain.drift import Shift
from tadscale.retrain.profile import Change
from tests.retrain.videos import row

WHEN = TriggerConfig(min_new_videos=5, min_new_fraction=0.1)
STILL = Shift(what="duration", size=0.1, enough=0.3, chance=0.5, rare=0.001)
MOVED = Shift(what="luma", size=0.6, enough=0.3, chance=0.0001, rare=0.001)


def change(new: int, known: int, gone: int = 0) -> Change:
    return Change(tuple(map(row, range(new))), known, gone)


@pytest.mark.parametrize(
    ("new", "known", "shifts", "trains", "says"),
    [
        (0, 40, (), False, "no training video is new (40 known, 0 gone)"),
        (0, 40, (MOVED,), False, "no training video is new"),
        (4, 10, (), False, "too few to tell drift"),
        (5, 60, (STILL,), False, "5 and 10% would be enough; nothing drifted in 1 tests"),
        (5, 50, (), True, "5 new training videos (10.0% of 50)"),
        (5, 60, (STILL, MOVED), True, "luma moved by 0.60 (chance 0.0001)"),
    ],
)
def test_enough_or_drift_trains_and_the_reasons_say_which(new, known, shifts, trains, says):
    decision = decide(change(new, known), shifts, WHEN)
    assert decision.retrain is trains
    assert says in "; ".join(decision.reasons)
    assert (decision.new_videos, decision.known_videos, decision.shifts) == (new, known, shifts)


def test_the_share_is_of_what_was_trained_on_also_where_some_of_it_is_gone():
    assert not decide(change(5, 20, gone=40), (), WHEN).retrain
    assert decide(change(6, 20, gone=40), (), WHEN).retrain
