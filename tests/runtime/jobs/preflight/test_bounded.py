"""Bounded waiting: short on a quiet machine, longer on one that has too much to do."""

import os
import time

import pytest

from tadscale.errors import UserError
from tadscale.runtime.jobs.preflight.bounded import within


@pytest.fixture
def load(monkeypatch):
    """Sets the machine's load, on two CPUs."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return lambda jobs: monkeypatch.setattr(os, "getloadavg", lambda: (jobs, 0.0, 0.0))


def test_work_gives_its_result_or_its_error(load):
    load(0.0)
    assert within(5.0, lambda: 7, "sum") == 7
    with pytest.raises(KeyError):
        within(5.0, lambda: {}["x"], "look")


def test_what_does_not_answer_is_left(load):
    load(0.5)
    began = time.monotonic()
    with pytest.raises(UserError, match="no answer from the tracking store within 1 s"):
        within(1.0, lambda: time.sleep(20), "tracking store")
    assert time.monotonic() - began < 10


def test_a_machine_with_too_much_to_do_is_given_longer(load):
    load(100.0)
    assert within(1.0, lambda: time.sleep(1.2) or "slow", "slow service") == "slow"
