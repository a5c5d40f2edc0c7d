"""The log in storage: every step once, whatever was left behind, and written in parts that stay small."""

import json

import pytest

from tadscale.data.storage import read_text, write_bytes
from tadscale.runtime.training import stage_log
from tadscale.runtime.training.stage_log import StageLog, divide


@pytest.fixture(autouse=True)
def short_parts(monkeypatch) -> None:
    monkeypatch.setattr(stage_log, "PART_STEPS", 4)


@pytest.fixture
def log(tmp_path) -> StageLog:
    return log_in(str(tmp_path))


def log_in(folder: str) -> StageLog:
    return StageLog(f"{folder}/log.jsonl", f"{folder}/log")


def lines(steps: range, attempt: int = 0) -> list[str]:
    return [json.dumps({"step": step, "attempt": attempt}) for step in steps]


def whole(log: StageLog) -> list[str]:
    return read_text(log.url).splitlines()


def test_parts_become_one_log_and_go(log):
    log.write(divide(lines(range(6))))
    log.write(divide(lines(range(4, 10))))  # a part that grew, and a new one
    assert whole(log) == []
    log.merge()
    assert whole(log) == lines(range(10))
    assert read_text(f"{log.parts_url}/00000000.jsonl") == ""
    log.merge()  # after a kill between this and the stage's result
    assert whole(log) == lines(range(10))


@pytest.mark.parametrize("checkpoint", [0, 1, 3, 4, 7, 8, 9])
def test_what_lies_past_the_checkpoint_is_told_by_the_attempt_that_counts(log, checkpoint):
    log.write(divide(lines(range(9))))  # the log came before its checkpoint, which never did
    grown = log.take_up(checkpoint)
    for step, line in zip(range(checkpoint, 10), lines(range(checkpoint, 10), attempt=1), strict=True):
        grown.setdefault(step // 4, []).append(line)
    log.write(grown)
    log.merge()
    assert whole(log) == lines(range(checkpoint)) + lines(range(checkpoint, 10), attempt=1)


def test_a_whole_log_is_taken_apart_where_steps_are_left(log):
    """An earlier version's, or one whose last checkpoint was damaged after the merge."""
    write_bytes(log.url, "".join(f"{line}\n" for line in lines(range(10))).encode())
    assert log.take_up(6) == {1: lines(range(4, 6))}
    assert whole(log) == []
    log.write({1: lines(range(4, 8)), 2: lines(range(8, 10))})
    log.merge()
    assert whole(log) == lines(range(10))


def test_a_merge_that_was_interrupted_is_finished(log):
    """Killed while the parts were deleted: what is left of them is no longer asked."""
    log.write(divide(lines(range(10))))
    log.merge()
    log.write({2: lines(range(8, 10))})
    log.merge()
    assert whole(log) == lines(range(10))
    assert read_text(f"{log.parts_url}/00000008.jsonl") == ""


def test_object_storage_serves_as_well(s3_url):
    log = log_in(s3_url)
    assert log.take_up(0) == {0: []}
    log.write(divide(lines(range(6))))
    assert log.take_up(5) == {1: lines(range(4, 5))}
    log.merge()
    assert whole(log) == lines(range(6))
    log.merge()
    assert whole(log) == lines(range(6))
