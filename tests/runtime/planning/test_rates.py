"""What is measured, and how many windows are counted: of what the job trains on, wherever it lies."""

import pytest
import torch

from tadscale.errors import UserError
from tadscale.models.heads.actionformer.objective import ActionFormerObjective
from tadscale.runtime.planning.rates import EpochWindows, measure_rates
from tadscale.runtime.stage.modes import stage_modes
from tests.runtime.jobs.preflight.conftest import job, not_connected, stored  # noqa: F401


# With a share of .75 a step has one window of the others: 4 steps for 4 of them, 6 for the pretext's 6.
@pytest.mark.parametrize(("share", "students", "pretext"), [(None, 4 + 4, 6 + 6), (0.75, 4 * 4, 6 * 4)])
def test_sources_are_measured_and_counted_as_each_mode_reads_them(share, students, pretext, job, stored):  # noqa: F811
    """Videos of 20 frames have two windows of 16, and three of 8; those under `data.url` are for scoring alone."""
    sources = [
        {"url": stored("labelled", subsets=("train",))},
        {"url": stored("bare", subsets=("train",)), "labelled": False, "share": share},
    ]
    planned = job(
        data__sprites=None,
        data__url=stored("scored", subsets=("test",)),
        data__sources=sources,
        pretrain={"frames": 8, "optim": {"global_batch": 4}},
    )
    modes = stage_modes(planned)
    rates, windows = measure_rates(planned, modes)
    assert windows == EpochWindows(detectors=4, pretext=pretext, students=students)
    assert set(rates.train_s) == set(modes) and rates.fetch_s > 0


def test_a_student_s_windows_are_its_own():
    windows = EpochWindows(detectors=4, pretext=12, students=8)
    of = {mode: windows.of(mode) for mode in ("pretrain", "teacher", "baseline", "conventional", "decomposed")}
    assert of == {"pretrain": 12, "teacher": 4, "baseline": 4, "conventional": 8, "decomposed": 8}
    assert windows._replace(students=None).of("decomposed") == 4


def test_a_step_that_is_not_finite_is_told_by_the_part_of_the_loss(job, stored, monkeypatch):  # noqa: F811
    finite = ActionFormerObjective.loss
    monkeypatch.setattr(ActionFormerObjective, "loss", lambda *given: finite(*given) * torch.nan)
    planned = job(data__sprites=None, data__url=stored("videos", subsets=("train", "test")))
    with pytest.raises(
        UserError, match=r"the untrained baseline network is not finite, nor is the loss \(loss\): look"
    ):
        measure_rates(planned, ["baseline"])
