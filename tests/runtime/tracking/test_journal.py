"""A process's words, kept in the run's folder."""

import errno
import logging
import threading
import time
from pathlib import Path

import pytest

from tadscale.data import storage
from tadscale.data.faults import StorageError
from tadscale.errors import UserError
from tadscale.runtime.tracking import journal
from tadscale.runtime.tracking.journal import DRIVER, Journal, JournalReader

OURS, THEIRS = logging.getLogger("tadscale.somewhere"), logging.getLogger("elsewhere")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_S", 0.02)


def words(run: Path) -> list[tuple[str, str, str]]:
    return [(line.level, line.who, line.words) for line in JournalReader(str(run)).new_lines()]


def test_our_messages_everybodys_warnings_and_the_end_are_kept(tmp_path: Path):
    with Journal(str(tmp_path), DRIVER):
        OURS.info("data plane %s", "embedded")
        THEIRS.info("chatter")
        THEIRS.warning("the disk is full")
    OURS.info("said to nobody")
    [plane, warning, end] = words(tmp_path)
    assert plane == ("INFO", "job", "data plane embedded")
    assert warning == ("WARNING", "job", "the disk is full")
    assert end[2].startswith("ended on ")


def test_warnings_are_printed_as_before(tmp_path: Path, capfd):
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers.clear()  # pytest's own
    try:
        with Journal(str(tmp_path), DRIVER):
            OURS.info("data plane")
            OURS.warning("the disk is full")
        assert not root.handlers
    finally:
        root.handlers[:] = handlers
    assert capfd.readouterr().err == "the disk is full\n"


def test_it_is_there_while_the_process_runs(tmp_path: Path):
    reader = JournalReader(str(tmp_path))
    assert reader.new_lines() == []
    with Journal(str(tmp_path), DRIVER):
        OURS.info("one")
        assert _eventually(reader) == ["one"]
        OURS.info("two")
        OURS.info("three")
        assert _eventually(reader, 2) == ["two", "three"]
    assert [line.ends for line in reader.new_lines()] == [True]
    assert reader.new_lines() == []


def _eventually(reader: JournalReader, lines: int = 1) -> list[str]:
    found: list[str] = []
    for _ in range(500):
        found += [line.words for line in reader.new_lines()]
        if len(found) >= lines:
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def test_a_fault_of_ours_ends_with_its_traceback_and_a_users_without(tmp_path: Path):
    with pytest.raises(RuntimeError), Journal(str(tmp_path), DRIVER):
        raise RuntimeError("no such thing")
    with pytest.raises(UserError), Journal(str(tmp_path), DRIVER):
        raise UserError("data.url is not there")
    with pytest.raises(KeyboardInterrupt), Journal(str(tmp_path), DRIVER):
        raise KeyboardInterrupt
    ours, users, interrupted = sorted(JournalReader(str(tmp_path)).new_lines())
    assert ours.level == "ERROR" and "test_journal.py" in ours.words and ours.words.endswith("no such thing")
    assert users.level == "ERROR" and users.words.endswith(": UserError data.url is not there")
    assert interrupted.level == "INFO" and interrupted.words.endswith(": KeyboardInterrupt")


def test_secrets_stay_out_of_it(tmp_path: Path):
    with Journal(str(tmp_path), DRIVER):
        OURS.warning("no answer of http://me:hunter2@tracking:5000")
    [path] = (tmp_path / "logs").iterdir()
    assert "hunter2" not in path.read_text() and "tracking:5000" in path.read_text()


def test_a_worker_with_nothing_to_say_leaves_no_file(tmp_path: Path):
    with Journal(str(tmp_path), "teacher rank 7"):
        pass
    assert not (tmp_path / "logs").exists()


def test_a_long_journal_is_cut_into_parts_and_read_as_one(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(journal, "PART_LINES", 10)
    reader, found = JournalReader(str(tmp_path)), []
    with Journal(str(tmp_path), DRIVER):
        for number in range(100):
            OURS.info("%d", number)
            if number % 7 == 0:
                time.sleep(0.03)
                found += reader.new_lines()
    found += reader.new_lines()
    assert len(list((tmp_path / "logs").iterdir())) > 3
    assert [line.words for line in found][:-1] == [str(number) for number in range(100)]
    assert [line.words for line in found] == [line[2] for line in words(tmp_path)]


def test_several_processes_are_joined_by_time(tmp_path: Path):
    with Journal(str(tmp_path), DRIVER) as job, Journal(str(tmp_path), "teacher rank 0") as rank:
        for number in range(6):
            record = {"name": "tadscale", "levelno": logging.INFO, "msg": str(number)}
            (job, rank)[number % 2].emit(logging.makeLogRecord(record))
    said = [line for line in JournalReader(str(tmp_path)).new_lines() if not line.ends]
    assert [(line.who, line.words) for line in said] == [
        (("job", "teacher rank 0")[number % 2], str(number)) for number in range(6)
    ]


@pytest.mark.parametrize("fault", [StorageError("away"), OSError(errno.ENOSPC, "no space left")])
def test_storage_that_is_away_or_full_delays_and_raises_nothing(fault, tmp_path: Path, monkeypatch):
    away = threading.Event()
    away.set()

    def write(url: str, data: bytes, **more) -> None:
        if away.is_set():
            raise fault
        storage.write_bytes(url, data, **more)

    monkeypatch.setattr(journal, "write_bytes", write)
    with Journal(str(tmp_path), DRIVER):
        OURS.info("one")
        time.sleep(0.1)
        assert words(tmp_path) == []
        away.clear()
        OURS.info("two")
    said = [line[2] for line in words(tmp_path)]
    assert [said[0], said[2]] == ["one", "two"] and said[1].startswith("the job's journal cannot be written for now")
    assert len(said) == 4


def test_a_malformed_message_ends_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)  # or pytest reports what Python would print
    with Journal(str(tmp_path), DRIVER):
        THEIRS.warning("%d of them", "x")
        OURS.info("and on")
    assert words(tmp_path)[0][2] == "and on"


def test_a_clock_that_is_set_back_turns_no_processs_words_round(tmp_path: Path, monkeypatch):
    with Journal(str(tmp_path), DRIVER):
        for at in (1000.0, 2000.0, 1500.0):
            monkeypatch.setattr("time.time", lambda at=at: at)
            OURS.info("%d", at)
    assert [line[2] for line in words(tmp_path)][:3] == ["1000", "2000", "1500"]


def test_words_of_a_later_version_are_read(tmp_path: Path):
    with Journal(str(tmp_path), DRIVER):
        OURS.info("one")
    [path] = (tmp_path / "logs").iterdir()
    path.write_text(path.read_text().replace('{"unix_s"', '{"shade": 7, "unix_s"'))
    assert words(tmp_path)[0][2] == "one"
