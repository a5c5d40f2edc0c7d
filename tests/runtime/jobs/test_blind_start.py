"""A pretext that was in vain is said to have been."""

import json
import logging

import pytest

from tadscale.engine.pretrain import BLIND, LAST_STEPS
from tadscale.runtime.jobs.blind_start import warn_of_blind_start
from tadscale.runtime.stage.spec import StageResult
from tadscale.runtime.stage.stopwatch import TimeSplit


@pytest.mark.parametrize(
    ("motion", "colour", "told"),
    [
        ((1.0, 0.15), (1.0, 0.02), []),
        ((1.0, 1.0), (1.0, 0.1), ["motion"]),
        ((1.0, 1.0), (1.0, 0.99), ["motion", "colour"]),
    ],
)
def test_what_was_not_learned_is_told_at_the_end(tmp_path, caplog, motion, colour, told):
    """From its first steps to its last, of which the mean counts."""
    steps = [(motion[0], colour[0])] * 40 + [(motion[1] - 0.1, colour[1]), (motion[1] + 0.1, colour[1])] * (
        LAST_STEPS // 2
    )
    lines = [{"losses": {"loss": 1.0, "motion_unexplained": one, "colour_unexplained": other}} for one, other in steps]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = StageResult(
        url=str(tmp_path),
        steps=60,
        losses={},
        quarantined=0,
        seconds=TimeSplit(),
        restarts=0,
        plan_digest="p",
        manifest_digest="m",
    )
    with caplog.at_level(logging.WARNING):
        warn_of_blind_start(result)
    assert [record.getMessage().split(" in ")[0].rsplit(" ", 1)[1] for record in caplog.records] == told
    assert ("backbone_delay=0" in caplog.text) == ("motion" in told)
    assert 0.2 < BLIND < 1
