"""What the data plane says of itself, against what it did."""

from collections.abc import Sequence

import numpy as np
import pytest

from tadscale.data.blocks import FetchCount
from tadscale.engine.pace import RECENT_STEPS
from tadscale.runtime.pipeline.teacher_cache import CacheCount
from tadscale.runtime.tracking.prometheus import DATA
from tadscale.runtime.training.batches import Waited
from tadscale.runtime.training.data_rates import DataRates
from tadscale.runtime.training.rank_report import GO_ON, RankReport
from tests.engine.test_pace import Clock

NOT_WAITED = Waited()


def report(
    times_us: Sequence[tuple[int, int]], *, valid: int | None = None, waited_us: Waited = NOT_WAITED, **fetch: int
) -> RankReport:
    """A rank's step of windows that took so long to be loaded, and to have their motion."""
    times = np.array(times_us, np.int64).reshape(-1, 2)
    count = len(times) if valid is None else valid
    return RankReport(0, 0, count, GO_ON, FetchCount(**fetch), CacheCount(), waited_us, times)


def run(steps: Sequence[Sequence[RankReport]], step_s: float = 0.5) -> dict[str, float]:
    clock = Clock()
    rates = DataRates(clock)
    for reports in steps:
        clock.now_s += step_s
        figures = rates.step(reports)
    return figures


def test_rates_shares_and_means_are_of_all_ranks() -> None:
    ranks = [
        report([(300_000, 0), (0, 100_000)], frames=16, fetched=900, cached=100, retries=1),
        report([(100_000, 100_000), (0, 0)], frames=16, fetched=600, cached=400),
    ]
    assert run([ranks, ranks]) == pytest.approx(
        {
            "decoded_frames_per_s": 64,
            "fetched_bytes_per_s": 3000,
            "retries": 2,
            "cached_share": 0.25,
            "remembered_share": 0.5,
            "load_wait_share": 0.0,
            "motion_wait_share": 0.0,
            "load_s_per_window": 0.1,
            "motion_s_per_window": 0.05,
            "window_p50_s": 0.2,  # of 0.3, 0.1 and 0.2: the window of which all was remembered is left out
            "window_p95_s": np.percentile([0.1, 0.2, 0.3] * 2, 95),
        }
    )


def test_percentiles_are_numpy_s() -> None:
    rng = np.random.default_rng(0)
    took_us = rng.integers(1, 10**6, (20, 8, 2))
    figures = run([[report(took_us[nth, :4].tolist()), report(took_us[nth, 4:].tolist())] for nth in range(20)])
    expected = np.percentile(took_us.sum(2).ravel() / 1e6, [50, 95])
    assert [figures["window_p50_s"], figures["window_p95_s"]] == pytest.approx(expected.tolist())


def test_what_is_waited_for_is_rank_0_s_as_the_share_of_waiting_is() -> None:
    ranks = [report([(1, 1)], waited_us=Waited(100_000, 25_000)), report([(1, 1)], waited_us=Waited(400_000, 0))]
    figures = run([ranks] * 3)
    assert (figures["load_wait_share"], figures["motion_wait_share"]) == pytest.approx((0.2, 0.05))


def test_only_the_recent_steps_count_but_for_retries() -> None:
    slow, fast = [report([(900_000, 0)], frames=90, retries=3)], [report([(100_000, 0)], frames=10)]
    figures = run([slow] + [fast] * RECENT_STEPS)
    assert (figures["window_p95_s"], figures["load_s_per_window"]) == pytest.approx((0.1, 0.1))
    assert (figures["decoded_frames_per_s"], figures["retries"]) == (pytest.approx(20), 3)


def test_where_nothing_was_done_all_is_0() -> None:
    remembered = run([[report([(0, 0), (0, 0)])]])
    assert remembered.pop("remembered_share") == 1
    empty = run([[report([(0, 0)], valid=0)]])
    assert set(remembered.values()) == set(empty.values()) == {0.0}


def test_every_figure_is_shown_to_prometheus() -> None:
    assert {f"tadscale_{name}" for name in run([[report([(1, 1)])]])} == set(DATA)


def test_a_report_arrives_as_it_was_sent() -> None:
    sent = RankReport(4, 7, 3, 1, FetchCount(*range(8)), CacheCount(1, 2, 3), Waited(5, 6), np.arange(8).reshape(4, 2))
    received = RankReport.from_numbers(sent.to_numbers())
    assert received[:-1] == sent[:-1]
    assert np.array_equal(received.times_us, sent.times_us)


@pytest.mark.parametrize(
    ("loaded_s", "motion_s", "load_us", "motion_us"),
    [
        (3.0, 4.0, 0, 0),  # all was there before it was asked for
        (12.0, 13.0, 2_000_000, 1_000_000),  # and the rest of the wait is handing over
        (9.0, 13.0, 0, 3_000_000),
        (12.0, 12.0, 2_000_000, 0),  # there is no motion to wait for
        (99.0, 99.0, 5_000_000, 0),  # a clock that goes before
        (12.0, 11.0, 2_000_000, 0),
    ],
)
def test_a_wait_is_for_what_was_not_there(loaded_s: float, motion_s: float, load_us: int, motion_us: int) -> None:
    assert Waited.split(10.0, 15.0, loaded_s, motion_s) == Waited(load_us, motion_us)
