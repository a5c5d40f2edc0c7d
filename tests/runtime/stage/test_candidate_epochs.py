"""Which epochs can be chosen."""

from itertools import pairwise

import pytest

from tadscale.runtime.stage.candidate_epochs import candidate_epochs
from tests.runtime.conftest import changed


@pytest.mark.parametrize("epochs", [1, 2, 7, 20, 101])
@pytest.mark.parametrize("most", [2, 3, 10])
def test_no_more_than_asked_for_evenly_spread_and_the_last_among_them(epochs, most):
    found = candidate_epochs(epochs, most)
    assert len(found) == min(epochs, most) == len(set(found))
    assert found[-1] == epochs and found[0] >= 1
    steps = {later - earlier for earlier, later in pairwise(found)}
    assert not steps or max(steps) - min(steps) <= 1


def test_few_epochs_are_all_looked_at():
    assert candidate_epochs(5, 10) == (1, 2, 3, 4, 5)
    assert candidate_epochs(20, 10) == (2, 4, 6, 8, 10, 12, 14, 16, 18, 20)


def test_a_stage_keeps_them_where_one_is_to_be_chosen(make_stage, tmp_path):
    stage = make_stage(tmp_path)
    assert stage.kept_epochs == ()
    chosen = stage.job.evaluate.model_copy(update={"select": "validation", "candidates": 2})
    selecting = changed(stage, evaluate=chosen)
    assert selecting.kept_epochs == (2,)  # of three; the last are the stage's own weights
    assert selecting.identity == stage.identity  # what is trained is the same
    assert selecting.model_copy(update={"mode": "pretrain"}).kept_epochs == ()
