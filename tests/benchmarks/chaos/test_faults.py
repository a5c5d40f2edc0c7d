"""The schedule: by its seed, every kind once before any twice, and a run that gets somewhere."""

import random
from itertools import pairwise

from benchmarks.chaos.faults import KINDS, Schedule


def played(seed: int, faults: int = 40) -> list[tuple[int, float, str]]:
    """Faults on a run that writes a checkpoint every two seconds."""
    schedule, events, tick = Schedule(random.Random(seed)), [], 0
    while len(events) < faults:
        tick += 1
        step, now_s = tick // 4 * 10, tick * 0.5
        if kind := schedule.due(step, now_s):
            events.append((step, now_s, kind))
    return events


def test_the_seed_decides():
    assert played(1) == played(1) != played(2)


def test_every_kind_comes_once_before_any_comes_twice():
    kinds = [kind for _, _, kind in played(3, faults=3 * len(KINDS))]
    for first in range(0, len(kinds), len(KINDS)):
        assert set(kinds[first : first + len(KINDS)]) == set(KINDS)


def test_most_faults_wait_for_a_checkpoint_and_some_do_not():
    schedule = Schedule(random.Random(0))
    assert not any(schedule.due(0, second) for second in range(100))  # nothing was trained yet
    steps = [step for step, _, _ in played(5)]
    waited = [later > earlier for earlier, later in pairwise(steps)]
    assert sum(waited) > len(waited) / 2
