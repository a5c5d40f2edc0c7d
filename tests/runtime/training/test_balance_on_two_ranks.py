"""A share of ground truth's gradient is that of the global batch, however it is spread, and before clipping and ZeRO."""

import json

import pytest

from tadscale.engine.engine import LocalEngine
from tests.runtime.training import balance_process as process
from tests.runtime.training.two_ranks import run_two_ranks


def test_two_ranks_balance_as_one_process_does(tmp_path):
    run_two_ranks(process.__file__, tmp_path)
    alone = process.run(LocalEngine(process.student(), process.CONFIG))
    for preset, seen in json.loads((tmp_path / "seen.json").read_text()).items():
        for one, other in zip(seen, alone, strict=True):
            assert one == pytest.approx(other, rel=1e-4), preset
    assert alone[-1][0] != pytest.approx(alone[0][0], rel=1e-2)
