"""The comparison that the chaos run ends with finds what it is for."""

import json

import pytest

from benchmarks.chaos.compare import differences

STEPS, BATCH = 8, 4


def line(step: int) -> dict:
    first = step * BATCH
    return {
        "step": step,
        "positions": [[first, first + 1], [first + 2, first + 3]],
        "losses": {"loss": 1 / (3 + step)},
        "lr": 0.1,
        "grad_norm": 0.7,
        "epoch": step // 4,
        "valid": BATCH,
        "windows_per_s": step / 7,
    }


def log(lines: list[dict]) -> str:
    return "".join(f"{json.dumps(one)}\n" for one in lines)


@pytest.fixture
def lines() -> list[dict]:
    return [line(step) for step in range(STEPS)]


CALM = log([line(step) for step in range(STEPS)])


def found(lines: list[dict]) -> list[str]:
    return differences(log(lines), CALM, STEPS, BATCH)


def test_equal_runs_are_equal_whatever_their_rates_were(lines):
    for one in lines:
        one["windows_per_s"] *= 2
    assert found(lines) == []


def test_another_number_of_ranks_has_the_same_positions(lines):
    for one in lines:
        one["positions"] = [[one["step"] * BATCH, one["step"] * BATCH + BATCH - 1]]
    assert found(lines) == []


def test_a_step_trained_twice_is_found(lines):
    assert found([*lines[:4], lines[3], *lines[4:]]) == ["steps trained more than once: 3"]


def test_a_missing_step_is_found(lines):
    assert found(lines[:2] + lines[3:]) == ["steps missing: 2"]
    assert found(lines[:1]) == ["steps missing: 1, 2, 3, 4, 5 and 2 more"]


def test_a_step_beyond_the_plan_is_found(lines):
    assert "steps not in the plan: 8" in found([*lines, line(8)])


def test_another_order_is_found(lines):
    assert found([lines[1], lines[0], *lines[2:]]) == ["steps out of order"]


@pytest.mark.parametrize("positions", [[[4, 5], [7, 8]], [[6, 7], [4, 5]], [[4, 5]], [[4, 5], [5, 7]]])
def test_other_windows_are_found(positions, lines):
    lines[1]["positions"] = positions
    assert found(lines) == ["steps of other positions than the plan's: 1"]


def test_one_bit_of_one_loss_is_found(lines):
    import math

    lines[5]["losses"]["loss"] = math.nextafter(lines[5]["losses"]["loss"], 1.0)
    assert found(lines) == ["steps whose losses differ from the undisturbed run's: 5"]


def test_an_undisturbed_run_that_is_not_whole_proves_nothing(lines):
    assert differences(log(lines), log(lines[:7]), STEPS, BATCH) == ["undisturbed: steps missing: 7"]
