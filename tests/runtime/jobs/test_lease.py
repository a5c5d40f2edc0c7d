"""A job runs once at a time."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tadscale.runtime.cluster.stopping import Preempted, StopToken
from tadscale.runtime.jobs import lease
from tadscale.runtime.jobs.lease import Holder, LeaseHeld, LeaseWatch, leased, process_space

HOLD = (
    "import sys, time\n"
    "from tadscale.runtime.cluster.stopping import StopToken\n"
    "from tadscale.runtime.jobs import lease\n"
    "lease.BEAT_S = lease.SETTLE_S = 0.1\n"
    "with lease.leased(sys.argv[1], StopToken()):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    for name, seconds in {"BEAT_S": 0.1, "SETTLE_S": 0.1, "EXPIRY_S": 1.5}.items():
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_start_is_refused_and_names_the_first(other, tmp_path):
    refused = pytest.raises(LeaseHeld, match=rf"runs already: process {other.pid} on .* give this run another name")
    with refused, leased(str(tmp_path), StopToken()):
        pytest.fail("both run")


def test_a_dead_process_s_lease_is_taken_at_once(other, tmp_path):
    other.send_signal(signal.SIGKILL)
    other.wait()
    started = time.monotonic()
    with leased(str(tmp_path), StopToken()):
        assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("processes", ["", "another-boot pid:[4026531836]", "{boot} pid:[1]"])
def test_a_process_of_the_same_host_name_in_another_container_is_not_taken_for_dead(processes, tmp_path):
    """Its number may be nobody's here; what an earlier version wrote does not say whose it is."""
    boot = process_space().partition(" ")[0]
    there = Holder(
        token="x", host=socket.gethostname(), pid=4_000_001, since_unix_s=0.0, processes=processes.format(boot=boot)
    )
    assert not there.is_dead
    assert there.model_copy(update={"processes": process_space()}).is_dead


def test_a_lease_of_another_machine_that_does_not_beat_is_taken_over(tmp_path):
    gone = Holder(token="x", host="elsewhere", pid=1, since_unix_s=0.0)
    Path(tmp_path, "lease.json").write_text(gone.model_dump_json())
    with leased(str(tmp_path), StopToken()):
        assert Holder.model_validate_json(Path(tmp_path, "lease.json").read_text()).pid == os.getpid()


def test_it_is_given_back(tmp_path):
    with leased(str(tmp_path), StopToken()):
        assert Path(tmp_path, "lease.json").exists()
    assert not Path(tmp_path, "lease.json").exists()


def test_it_is_given_back_by_one_who_is_told_to_stop_while_taking_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_S", 30.0)
    told = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    told.start()
    with pytest.raises(Preempted), StopToken().listening() as stop, leased(str(tmp_path), stop):
        pytest.fail("it had not settled")
    assert not Path(tmp_path, "lease.json").exists()


def test_who_lost_it_stops_and_leaves_it_to_the_other(tmp_path):
    taken = Holder(token="x", host="elsewhere", pid=1, since_unix_s=0.0).model_dump_json()
    with pytest.raises(Preempted), StopToken().listening() as stop, leased(str(tmp_path), stop):
        Path(tmp_path, "lease.json").write_text(taken)
        time.sleep(30)
    assert Path(tmp_path, "lease.json").read_text() == taken


def test_two_that_start_at_once_are_not_both_let_in(tmp_path, monkeypatch):
    """The other writes between this one's look and its writing."""
    taken = Holder(token="x", host="elsewhere", pid=7, since_unix_s=0.0).model_dump_json()
    monkeypatch.setattr(lease, "_write", lambda url, holder: Path(tmp_path, "lease.json").write_text(taken))
    with pytest.raises(LeaseHeld, match="process 7"), leased(str(tmp_path), StopToken()):
        pytest.fail("both run")


def test_who_looks_on_sees_a_driver_s_death_and_no_end_that_is_none(other, tmp_path):
    watch = LeaseWatch(str(tmp_path))
    assert watch.dead() is None
    other.kill()
    other.wait()
    gone = watch.dead()
    assert gone is not None and gone.pid == other.pid
    (tmp_path / lease.LEASE_NAME).unlink()
    assert watch.dead() is None


def test_a_lease_of_another_machine_is_dead_once_it_does_not_beat(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(lease.time, "monotonic", lambda: clock[0])
    far = Holder(token="x", host="elsewhere", pid=1, since_unix_s=0.0)
    (tmp_path / lease.LEASE_NAME).write_text(far.model_dump_json())
    watch = LeaseWatch(str(tmp_path))
    assert watch.dead() is None
    clock[0] = 1.0
    (tmp_path / lease.LEASE_NAME).write_text(far.model_copy(update={"beat": 1}).model_dump_json())
    assert watch.dead() is None
    clock[0] = 2.0
    assert watch.dead() is None  # two seconds after it was first seen, one after its last beat
    clock[0] = 2.6
    gone = watch.dead()
    assert gone is not None and gone.host == "elsewhere"
