"""What the driver and the workers tell each other."""

import json
import time
from dataclasses import asdict, replace

import pytest

from tadscale.data.quarantine import QuarantineBudget, QuarantineEntry
from tadscale.engine.loop import StepRecord
from tadscale.runtime.pipeline.packets import PacketLayout
from tadscale.runtime.stage.stopwatch import Stopwatch, TimeSplit
from tadscale.runtime.training.monitor import Monitor, Outcome

LAYOUT = PacketLayout(first_step=0, total_steps=4, global_batch=2, world_size=1, windows=2)
RECORD = StepRecord(
    step=3,
    total_steps=10,
    epoch=0,
    losses={"loss": 1.0},
    lr=0.1,
    grad_norm=1.0,
    windows_per_s=1.0,
    data_wait_share=0.0,
    memory_mib=1.0,
    eta_s=1.0,
)


def bad(key: str) -> QuarantineEntry:
    return QuarantineEntry(shard="shard-000000.tar", key=key, reason="torn", stage="decode")


def test_the_ledger_is_written_at_once_and_taken_up_again(tmp_path):
    url = str(tmp_path / "quarantine.jsonl")
    budget = QuarantineBudget(max_fraction=0.2)
    first = Monitor(url, budget, videos=10)
    assert (tmp_path / "quarantine.jsonl").read_text() == ""
    assert not first.quarantine([bad("a"), bad("a")])
    again = Monitor(url, budget, videos=10)
    assert not again.quarantine([bad("a"), bad("b")])
    assert again.quarantine([bad("c")])
    keys = [json.loads(line)["key"] for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert keys == ["a", "b", "c"]
    summary = again.summary()
    assert summary.quarantined == 3
    assert "torn" in summary.over_budget


def test_a_spent_budget_stays_spent_and_a_raised_one_goes_on(tmp_path):
    url, tight = str(tmp_path / "quarantine.jsonl"), QuarantineBudget(max_fraction=0.1)
    assert Monitor(url, tight, videos=10).quarantine([bad("a"), bad("b"), bad("c")])
    ledger = (tmp_path / "quarantine.jsonl").read_text()
    assert ledger.count("\n") == 2
    again = Monitor(url, tight, videos=10)
    over = again.summary().over_budget
    assert over is not None and "2 of 10" in over and f"delete {url}" in over
    assert again.quarantine([bad("a")]) and again.quarantine([])
    assert (tmp_path / "quarantine.jsonl").read_text() == ledger
    raised = Monitor(url, QuarantineBudget(max_fraction=0.2), videos=10)
    assert raised.summary().over_budget is None and not raised.quarantine([bad("b")])
    assert raised.quarantine([bad("c")])


def test_a_record_is_told_how_many_videos_are_bad(tmp_path):
    monitor = Monitor(str(tmp_path / "q"), QuarantineBudget(max_fraction=1.0), videos=10)
    assert not monitor.record(asdict(RECORD))
    monitor.quarantine([bad("a"), bad("b")])
    monitor.record(asdict(replace(RECORD, data={"retries": 4.0})))
    told = [StepRecord(**record).data for record in monitor.since(0)]
    assert told == [{"quarantined_videos": 0.0}, {"retries": 4.0, "quarantined_videos": 2.0}]


def test_records_stay_until_they_are_said_to_have_come(tmp_path):
    monitor = Monitor(str(tmp_path / "q"), QuarantineBudget(), videos=1)
    for step in range(3):
        monitor.record(asdict(replace(RECORD, step=step)))
    assert [record["step"] for record in monitor.since(0)] == [0, 1, 2]  # an answer that is lost
    assert [record["step"] for record in monitor.since(0)] == [0, 1, 2]
    monitor.record(asdict(replace(RECORD, step=3)))
    assert [record["step"] for record in monitor.since(2)] == [2, 3]
    assert monitor.since(4) == []


def test_worker_groups_are_counted_and_the_latest_layout_holds(tmp_path):
    monitor = Monitor(str(tmp_path / "q"), QuarantineBudget(), videos=1)
    assert monitor.summary().restarts == 0
    later = LAYOUT.__class__(first_step=2, total_steps=4, global_batch=2, world_size=2, windows=1)
    monitor.started(LAYOUT)
    monitor.started(later)
    assert monitor.layout() == later
    outcome = Outcome("finished", 4, {"loss": 1.0}, TimeSplit())
    monitor.finished(outcome)
    assert (monitor.summary().restarts, monitor.summary().outcome) == (1, outcome)


def test_time_that_is_neither_waited_nor_written_is_trained():
    stopwatch = Stopwatch(TimeSplit(train_s=10.0, data_wait_s=5.0, checkpoint_s=1.0))
    time.sleep(0.05)
    stopwatch.data_wait_s, stopwatch.checkpoint_s = 0.02, 0.01
    stopwatch.checkpoint_background_s = 30.0  # beside the training: takes nothing from it
    split = stopwatch.split()
    assert split.train_s == pytest.approx(10.0 + 0.02, abs=0.015)
    assert (split.data_wait_s, split.checkpoint_s, split.checkpoint_background_s) == (5.02, 1.01, 30.0)
    assert split.total_s == pytest.approx(split.train_s + 6.03)
