"""The promises of the plan, over grids of sizes, world sizes and points of resumption."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tadscale.data.plan import Plan, PlanRow, _orders, draw_seed, shuffled
from tadscale.data.windows import WindowTable


def table(count: int) -> WindowTable:
    ids = np.arange(count, dtype=np.int64)
    return WindowTable(
        video=ids // 3,
        start_frames=ids % 3 * 8,
        valid_frames=np.full(count, 16),
        labelled=np.ones(count, bool),
        source=np.zeros(count, np.int64),
    )


def plan(count: int = 13, **changes: object) -> Plan:
    settings = {"seed": 3, "global_batch": 4, "epochs": 3, "manifest_digest": "m", "settings_digest": "s"}
    return Plan(windows=table(count), **(settings | changes))


def rows_of(plan: Plan, first_step: int = 0) -> Iterator[PlanRow]:
    """Every slot from a step to the end of the run, empty ones included, in order of position."""
    for step in range(first_step, plan.total_steps):
        for slot, window in enumerate(plan.batch(step).tolist()):
            yield plan.row(step, slot, window)


GRID = list(product([1, 2, 7, 8, 9, 64], [1, 2, 6, 8, 12], [1, 3]))  # windows, global batch, epochs


@pytest.mark.parametrize(("count", "global_batch", "epochs"), GRID)
def test_every_window_comes_once_per_epoch_and_only_the_last_batch_has_empty_slots(
    count: int, global_batch: int, epochs: int
) -> None:
    p = plan(count, global_batch=global_batch, epochs=epochs)
    assert p.total_steps == epochs * p.steps_per_epoch
    for epoch in range(epochs):
        batches = [p.batch(epoch * p.steps_per_epoch + nth) for nth in range(p.steps_per_epoch)]
        assert all(len(batch) == global_batch for batch in batches)
        assert all((batch >= 0).all() for batch in batches[:-1])
        filled = batches[-1][batches[-1] >= 0]
        assert len(filled) >= 1
        np.testing.assert_array_equal(batches[-1][len(filled) :], -1)
        seen = Counter(np.concatenate(batches).tolist())
        assert {window: n for window, n in seen.items() if window >= 0} == dict.fromkeys(range(count), 1)


@pytest.mark.parametrize(("count", "global_batch", "epochs"), GRID)
def test_resumed_at_any_step_with_any_world_size_nothing_is_lost_and_nothing_comes_twice(
    count: int, global_batch: int, epochs: int
) -> None:
    p = plan(count, global_batch=global_batch, epochs=epochs)
    worlds = [n for n in range(1, global_batch + 1) if global_batch % n == 0]
    whole = np.concatenate([p.batch(step) for step in range(p.total_steps)])
    rng = np.random.default_rng(0)
    for cut in range(0, p.total_steps, max(1, p.total_steps // 5)):
        before, after = rng.choice(worlds, 2)
        trained = [
            # a fresh plan object each time: nothing may depend on what was asked before
            plan(count, global_batch=global_batch, epochs=epochs).slots(step, rank, world)
            for first, last, world in ((0, cut, before), (cut, p.total_steps, after))
            for step in range(first, last)
            for rank in range(world)
        ]
        np.testing.assert_array_equal(np.concatenate(trained), whole)


def test_rows_carry_position_place_and_seed_of_every_slot() -> None:
    p = plan(13)
    rows = list(rows_of(p, 2))
    assert [row.position for row in rows] == list(range(2 * 4, p.total_steps * 4))
    for row in rows:
        assert row.step == row.position // 4
        assert row.epoch == row.step // 4
        assert row.window == p.batch(row.step)[row.position % 4]
        if row.window < 0:
            assert (row.video, row.start_frames, row.valid_frames) == (-1, 0, 0)
        else:
            assert (row.video, row.start_frames, row.valid_frames) == (row.window // 3, row.window % 3 * 8, 16)
            assert row.draw_seed == draw_seed(3, row.epoch, row.window)
    assert sum(row.window < 0 for row in rows) == 3 * 3
    assert list(rows_of(p, p.total_steps)) == []


def test_epochs_and_seeds_shuffle_differently_and_well() -> None:
    orders = [shuffled(1000, seed, epoch) for seed, epoch in product(range(3), range(4))]
    for i, a in enumerate(orders):
        np.testing.assert_array_equal(np.sort(a), np.arange(1000))
        assert abs(np.corrcoef(a, np.arange(1000))[0, 1]) < 0.12  # 3.8 standard deviations
        for b in orders[:i]:
            assert (a == b).sum() < 10  # one is expected
    first = Counter(int(shuffled(5, seed, 0)[0]) for seed in range(1000))
    assert min(first.values()) > 150  # 200 are expected


def test_the_order_is_the_same_for_ever() -> None:
    """Frozen values: a run is resumed after an upgrade of numpy, too."""
    assert shuffled(8, 0, 0).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]
    assert draw_seed(1, 2, 3) == 6498626229777268288
    assert plan().digest == "c0db521cc57b581ae069038752c9761abc2e32bf136b3c44796445c717fd7926"


def test_digests_differ_whenever_anything_that_matters_differs() -> None:
    base = plan()
    variants = [
        base,
        plan(14),
        plan(seed=4),
        plan(global_batch=2),
        plan(epochs=4),
        plan(manifest_digest="other"),
        plan(settings_digest="other"),
        *(
            replace(base, windows=replace(base.windows, **{name: getattr(base.windows, name)[::-1]}))
            for name in ("video", "start_frames")
        ),
        replace(base, windows=replace(base.windows, valid_frames=base.windows.valid_frames - 1)),
    ]
    assert len({variant.digest for variant in variants}) == len(variants)
    assert plan().digest == base.digest


def test_draw_seeds_are_distinct_and_fit_a_signed_column() -> None:
    seeds = {draw_seed(seed, epoch, window) for seed, epoch, window in product(range(4), range(10), range(50))}
    assert len(seeds) == 4 * 10 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_late_batch_of_a_long_run_costs_one_shuffle() -> None:
    """A million windows, a thousand epochs: asking for the last batch must not walk through the others."""
    p = plan(1_000_000, epochs=1000, global_batch=512)
    assert (p.batch(p.total_steps - 1) >= 0).sum() == 1_000_000 % 512
    _orders.cache_clear()
    p.batch(p.total_steps - 2)
    p.batch(p.total_steps - 1)
    assert _orders(0).cache_info().misses == 1


@pytest.mark.parametrize("step", [-1, 12])
def test_a_step_outside_the_run_is_an_error(step: int) -> None:
    with pytest.raises(IndexError, match="12 steps"):
        plan().batch(step)


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shared equally by 3 workers.*out of \[1, 2, 4\]"):
        plan().slots(0, 0, 3)
    with pytest.raises(ValueError, match="nothing to train on"):
        plan(0)
    for name in ("global_batch", "epochs"):
        with pytest.raises(ValueError, match=f"{name}=0"):
            plan(**{name: 0})
