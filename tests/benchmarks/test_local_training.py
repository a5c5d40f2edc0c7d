"""Mixtures of windows with and without ground truth, as the benchmarks train them."""

import numpy as np
import pytest

from benchmarks.local_training import Mixture
from tadscale.data.plan import Plan
from tadscale.data.windows import WindowTable

TABLE = WindowTable(
    video=np.arange(10),
    start_frames=np.zeros(10, int),
    valid_frames=np.full(10, 4),
    labelled=np.ones(10, bool),
    source=np.zeros(10, int),
)


@pytest.mark.parametrize("others", [0, 1, 3])
def test_each_step_has_its_labelled_windows_and_so_many_others_beside(others):
    plan = Plan(seed=0, epochs=4, manifest_digest="", settings_digest="", **Mixture(4, others).plan_of(TABLE, 2))
    assert (plan.steps_per_epoch, plan.global_batch) == (2, 2 * (1 + others))
    for epoch in range(4):
        seen = np.concatenate([plan.batch(step) for step in (2 * epoch, 2 * epoch + 1)])
        assert sorted(seen[plan.windows.labelled[seen]]) == [0, 1, 2, 3]
        assert (~plan.windows.labelled[seen]).sum() == 4 * others
