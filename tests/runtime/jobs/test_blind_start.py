"""A pretext that was in vain is said to have been."""

import json
import logging
from pathlib import Path

import pytest

from tadscale.engine.pretrain import LAST_STEPS, PretrainConfig
from tadscale.engine.steps import DistillConfig, StudentConfig
from tadscale.runtime.jobs.blind_start import warn_of_blind_start
from tests.runtime.conftest import result_of

DELAYED, AT_ONCE = None, 0.0


@pytest.fixture
def warned(make_stage, tmp_path, caplog):
    """What is said of a pretext whose shares of motion and colour left unexplained end like this, in the mean."""

    def warn(motion: float, colour: float, *, motion_weight: float = 3.0, delay: float | None = DELAYED) -> list[str]:
        student = StudentConfig(distill=DistillConfig(backbone_delay=delay))
        stage = make_stage(tmp_path, "pretrain", pretrain=PretrainConfig(motion_weight=motion_weight), student=student)
        ends = [(motion - 0.1, colour), (motion + 0.1, colour)] * (LAST_STEPS // 2)
        blind = {"motion_blind": 0.5, "colour_blind": 2.0}
        losses = [blind | {"motion": 0.5 * one, "colour": 2.0 * other} for one, other in [(1.0, 1.0)] * 40 + ends]
        Path(stage.url).mkdir(parents=True, exist_ok=True)
        Path(stage.log_url).write_text("".join(json.dumps({"losses": each}) + "\n" for each in losses))
        with caplog.at_level(logging.WARNING):
            warn_of_blind_start(stage, result_of(stage.url, steps=60))
        return [record.getMessage() for record in caplog.records]

    return warn


def test_what_was_learned_is_not_spoken_of(warned):
    assert warned(0.15, 0.02) == []


def test_motion_that_was_not_learned_is_told_with_what_a_student_must_not_wait_for(warned):
    [said] = warned(1.0, 0.1)
    assert "nothing of motion in 60 steps" in said and "backbone_delay=0" in said


def test_a_job_that_waits_for_nothing_is_not_told_so(warned):
    [said] = warned(1.0, 0.1, delay=AT_ONCE)
    assert "nothing of motion" in said and "backbone_delay" not in said


def test_colour_that_was_not_learned_is_told(warned):
    _, said = warned(1.0, 0.99)
    assert "nothing of colour" in said and "backbone_delay" not in said


def test_what_it_was_not_to_learn_is_not_missed(warned):
    assert warned(1.0, 0.1, motion_weight=0.0) == []
