"""A share of ground truth's gradient is that of the global batch, however it is spread, and before clipping and ZeRO."""

import json

import pytest

from tadscale.engine.engine import LocalEngine
from tests.runtime.training import balance_process as process
from tests.runtime.training.two_ranks import run_two_ranks


def test_two_ranks_balance_as_one_process_does(tmp_path):
    """With a teacher of motion alone, the backbone reached at once or later, and with one of appearance beside it."""
    run_two_ranks(process.__file__, tmp_path)
    seen = json.loads((tmp_path / "seen.json").read_text())
    alone = {name: process.run(LocalEngine(process.student(), process.CONFIG), name) for name in process.STUDENTS}
    for taught_by, by_preset in seen.items():
        for preset, steps in by_preset.items():
            for one, other in zip(steps, alone[taught_by], strict=True):
                assert one == pytest.approx(other, rel=1e-4), (taught_by, preset)
        assert alone[taught_by][-1][0] != pytest.approx(alone[taught_by][0][0], rel=1e-2)
    losses = {taught_by: [loss for loss, _ in steps] for taught_by, steps in alone.items()}
    assert losses["motion, in the backbone later"] != losses["motion"]
    assert all(one < other for one, other in zip(losses["motion"], losses["motion and appearance"], strict=True))
