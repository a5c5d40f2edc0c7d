"""Speed of late and on the whole."""

import pytest

from tadscale.engine.pace import RECENT_STEPS, Pace


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def run(pace: Pace, clock: Clock, steps: int, step_s: float, wait_s: float):
    for _ in range(steps):
        pace.wait(lambda: setattr(clock, "now_s", clock.now_s + wait_s))
        clock.now_s += step_s - wait_s
        rates = pace.step()
    return rates


def test_the_first_steps_are_forgotten_and_stay_in_the_mean() -> None:
    """A minute of compiling is no sign of how long the rest will take."""
    clock = Clock()
    pace = Pace(8, clock)
    slow = run(pace, clock, 1, step_s=60.0, wait_s=30.0)
    assert slow.windows_per_s == slow.mean_windows_per_s == pytest.approx(8 / 60)
    assert slow.data_wait_share == pytest.approx(0.5)
    fast = run(pace, clock, RECENT_STEPS, step_s=0.5, wait_s=0.1)
    assert (fast.windows_per_s, fast.step_s, fast.data_wait_share) == pytest.approx((16.0, 0.5, 0.2))
    assert fast.mean_windows_per_s == pytest.approx(8 * (RECENT_STEPS + 1) / (60 + 0.5 * RECENT_STEPS))


def test_what_slows_down_is_seen_within_the_window() -> None:
    clock = Clock()
    pace = Pace(4, clock)
    run(pace, clock, 10 * RECENT_STEPS, step_s=0.1, wait_s=0.0)
    slower = run(pace, clock, RECENT_STEPS, step_s=1.0, wait_s=0.9)
    assert (slower.windows_per_s, slower.data_wait_share) == pytest.approx((4.0, 0.9))
    assert slower.mean_windows_per_s > 20


def test_time_between_steps_counts() -> None:
    """Checkpoints are written there."""
    clock = Clock()
    pace = Pace(1, clock)
    run(pace, clock, 2, step_s=1.0, wait_s=0.0)
    clock.now_s += 4.0
    assert run(pace, clock, 1, step_s=1.0, wait_s=0.0).step_s == pytest.approx(7 / 3)
