"""Drift tests against slow loops and scipy, and how often they are wrong at the default thresholds."""

import math

import numpy as np
import pytest
from scipy import stats

from tadscale.retrain import drift
from tadscale.retrain.config import DriftConfig
from tadscale.retrain.drift import (
    TESTS,
    distance_shift,
    divergence,
    ks_chance,
    ks_distance,
    label_chance,
    shifts_between,
)
from tests.retrain.videos import drawn

DEFAULTS = DriftConfig()


def test_the_distance_is_the_largest_gap_that_a_slow_loop_finds():
    random = np.random.default_rng(0)
    for _ in range(20):
        old, new = (random.integers(0, 12, int(random.integers(1, 30))).astype(float) for _ in range(2))
        gaps = []
        for value in [*old, *new]:
            below = [sum(1 for one in side if one <= value) / len(side) for side in (old, new)]
            gaps.append(abs(below[0] - below[1]))
        assert ks_distance(old, new) == pytest.approx(max(gaps))


@pytest.mark.parametrize(("old", "new"), [(1, 1), (64, 10), (12, 12), (7, 30), (256, 24)])
def test_the_chance_is_scipys_exact_one(old, new):
    for shift in np.linspace(0.0, 0.95, 12):
        sides = np.linspace(0, 1, old), np.linspace(0, 1, new) + shift + 1e-6
        exact = float(stats.ks_2samp(*sides, method="exact").pvalue)
        assert ks_chance(ks_distance(*sides), old, new) == pytest.approx(exact, rel=1e-6, abs=1e-12)


def test_the_divergence_is_that_of_a_slow_loop_and_of_scipy():
    from scipy.spatial.distance import jensenshannon

    random = np.random.default_rng(1)
    for _ in range(20):
        old, new = random.integers(0, 5, 6), random.integers(0, 5, 6)
        old[0], new[1] = 1, 1
        p, q = old / old.sum(), new / new.sum()
        bits = 0.0
        for one, other in zip(p, q, strict=True):
            middle = (one + other) / 2
            bits += sum(mix * math.log2(mix / middle) / 2 for mix in (one, other) if mix > 0)
        found = float(divergence(old.astype(float), new.astype(float)))
        assert found == pytest.approx(bits) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert float(divergence(np.array([1.0, 0]), np.array([0, 3.0]))) == pytest.approx(1.0)
    # What the setting's documentation says.
    assert float(divergence(np.array([1.0, 1]), np.array([3.0, 1]))) == pytest.approx(0.05, abs=0.002)


def test_the_chance_of_a_label_mix_is_that_of_all_permutations():
    from itertools import combinations

    old, new = np.array([[2.0, 0], [1, 1], [0, 3], [2, 1]]), np.array([[0.0, 2], [0, 1], [1, 2]])
    pooled, seen = np.concatenate([old, new]), float(divergence(old.sum(0), new.sum(0)))
    as_far = []
    for chosen in combinations(range(7), 3):
        drawn_now = pooled[list(chosen)].sum(0)
        as_far.append(float(divergence(pooled.sum(0) - drawn_now, drawn_now)) >= seen - 1e-12)
    assert label_chance(old, new, draws=4000) == pytest.approx(np.mean(as_far), abs=0.03)


def test_too_few_videos_and_missing_facts_make_no_test():
    random = np.random.default_rng(2)
    old, few = drawn(random, 40), drawn(random, DEFAULTS.min_videos - 1, shift=5.0)
    assert shifts_between(old, few, DEFAULTS) == []
    bare = [one.model_copy(update={"look": None, "labels": None}) for one in drawn(random, 30)]
    assert [one.what for one in shifts_between(old, bare, DEFAULTS)] == ["duration"]
    assert {one.what for one in shifts_between(old, drawn(random, 30), DEFAULTS)} == set(TESTS) - {"confidence"}


def test_a_large_shift_of_few_and_a_small_one_of_many_are_both_no_drift():
    random = np.random.default_rng(3)
    many = distance_shift("duration", random.normal(0, 1, 2000), random.normal(0.25, 1, 2000), DEFAULTS)
    assert many is not None and many.chance < 1e-6 and not many.moved
    few = distance_shift("duration", np.arange(10.0), np.arange(10.0) + 4, DEFAULTS)
    assert few is not None and few.size >= DEFAULTS.distance and not few.moved
    assert "duration moved by 0.40" in str(few)


def test_false_alarms_are_as_rare_as_is_stated(monkeypatch):
    """Eight tests of videos of one kind, whose segments come in clusters: 1 % of ticks may see drift, and 6 of 200 would be
    too many for that (in 1 of 100 such trials)."""
    monkeypatch.setattr(drift, "DRAWS", 999)
    random, alarms, ticks = np.random.default_rng(4), 0, 200
    for tick in range(ticks):
        old, new = drawn(random, 64), drawn(random, (10, 20, 40)[tick % 3])
        confidence = distance_shift("confidence", random.random(60), random.random(24), DEFAULTS)
        alarms += any(one.moved for one in [*shifts_between(old, new, DEFAULTS), confidence])
    assert alarms < stats.binom.ppf(0.99, ticks, DEFAULTS.false_alarms) + 1


def test_a_real_shift_is_seen(monkeypatch):
    """Of one and a half deviations by twenty videos, of classes that change places by forty."""
    monkeypatch.setattr(drift, "DRAWS", 999)
    random = np.random.default_rng(5)
    seen = {"duration": 0, "luma": 0, "speed": 0, "label mix": 0}
    for _ in range(20):
        old = drawn(random, 64, jumps=0.2)
        new = drawn(random, 20, shift=1.5, jumps=0.2)
        moved = {one.what for one in shifts_between(old, new, DEFAULTS) if one.moved}
        mixed = shifts_between(old, drawn(random, 40, jumps=0.8), DEFAULTS)
        moved |= {one.what for one in mixed if one.moved and one.what == "label mix"}
        for what in seen:
            seen[what] += what in moved
    assert min(seen.values()) >= 16
