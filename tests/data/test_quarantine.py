"""The ledger counts every bad video once, and stops the run when there are too many."""

import pickle

import pytest

from tadscale.data.decode import UndecodableVideo
from tadscale.data.quarantine import (
    DataError,
    QuarantineBudget,
    QuarantineEntry,
    QuarantineExceeded,
    QuarantineLedger,
)


def entry(key: str, reason: str = "broken", shard: str = "s.tar") -> QuarantineEntry:
    return QuarantineEntry(shard, key, reason, "decode")


def test_a_video_is_entered_once_with_its_first_reason() -> None:
    ledger = QuarantineLedger(total_videos=1000)
    assert ledger.add(entry("a", "first"))
    assert not ledger.add(entry("a", "second"))
    assert ledger.add(entry("a", shard="t.tar"))
    assert [(e.shard, e.reason) for e in ledger] == [("s.tar", "first"), ("t.tar", "broken")]
    assert ("s.tar", "a") in ledger
    assert ("s.tar", "b") not in ledger


@pytest.mark.parametrize(
    ("budget", "total", "allowed"),
    [
        (QuarantineBudget(max_fraction=0.1), 50, 5),
        (QuarantineBudget(max_fraction=0.1), 59, 5),
        (QuarantineBudget(max_fraction=0.01), 10, 1),
        (QuarantineBudget(max_fraction=0), 50, 0),
    ],
)
def test_the_budget_is_spent_by_the_first_video_beyond_it(budget: QuarantineBudget, total: int, allowed: int) -> None:
    ledger = QuarantineLedger(budget, total)
    for index in range(allowed):
        ledger.add(entry(f"v{index}"))
    ledger.check(total)
    with pytest.raises(QuarantineExceeded, match=rf"{allowed + 1} of {total} .* budget is {allowed} [\s\S]*broken"):
        ledger.add(entry("one more"))


def test_without_a_known_total_only_check_refuses() -> None:
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=0.5))
    for index in range(10):
        ledger.add(entry(f"v{index}"))
    ledger.check(20)
    with pytest.raises(QuarantineExceeded):
        ledger.check(19)


@pytest.mark.parametrize(
    ("stage", "remedy"), [("pack", "--budget SHARE"), ("scan", "--annotations, --classes, --subset")]
)
def test_what_to_do_depends_on_whether_there_is_a_manifest_yet(stage: str, remedy: str) -> None:
    ledger = QuarantineLedger()
    for key in ("a", "b"):
        ledger.add(QuarantineEntry("", key, "there is no file of it", stage))
    with pytest.raises(QuarantineExceeded, match=rf"\n  a: there is no file of it[\s\S]*{remedy}") as raised:
        ledger.check(9)
    assert "rebuild the manifest" not in str(raised.value) and "quarantine_budget" not in str(raised.value)
    ledger.add(entry("c"))
    with pytest.raises(
        QuarantineExceeded, match=r"  s\.tar: c: broken[\s\S]*data\.quarantine_budget.*rebuild the manifest"
    ):
        ledger.check(9)


def test_all_videos_are_more_than_any_budget_bears() -> None:
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=1.0))
    ledger.add(entry("a", "no number"))
    ledger.check(2)
    with pytest.raises(QuarantineExceeded, match=r"1 of 1 videos are in quarantine, none is left[\s\S]*no number"):
        ledger.check(1)


def test_json_lines_come_back() -> None:
    ledger = QuarantineLedger()
    ledger.add(entry("a", 'über "all"\nlines'))
    ledger.add(entry("b"))
    assert ledger.to_jsonl().count("\n") == 2
    other = QuarantineLedger()
    other.add(entry("b", "known before"))
    other.load_jsonl(ledger.to_jsonl())
    assert [(e.key, e.reason) for e in other] == [("b", "known before"), ("a", 'über "all"\nlines')]


def test_a_key_that_is_no_text_can_be_written() -> None:
    ledger, other = QuarantineLedger(), QuarantineLedger()
    ledger.add(entry("\ud800", "no usable key"))
    other.load_jsonl(ledger.to_jsonl().encode().decode())
    assert [e.key for e in other] == ["\ud800"]


@pytest.mark.parametrize("error", [DataError("why"), UndecodableVideo("why")])
def test_data_errors_cross_process_borders(error: DataError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.reason, str(copy)) == (type(error), "why", "why")
