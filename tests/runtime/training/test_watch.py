"""The driver beside a training: its stop reaches the workers, and its records whoever keeps them."""

import os
import signal
import time
from dataclasses import asdict, replace

import pytest

from tadscale.data.quarantine import QuarantineBudget
from tadscale.engine.loop import StepRecord
from tadscale.runtime.cluster.stopping import Preempted, StopToken
from tadscale.runtime.training.monitor import Monitor, Record, start_monitor
from tadscale.runtime.training.watch import watching
from tests.runtime.training.test_monitor import RECORD

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def monitor(tmp_path):
    import ray

    _, handle = start_monitor(str(tmp_path / "q"), QuarantineBudget(), 1)
    yield handle
    ray.kill(handle)


def until_asked_to_stop(monitor) -> bool:
    """What the workers do: give a record, and hear whether to stop."""
    import ray

    deadline = time.monotonic() + 30
    while not (asked := ray.get(monitor.record.remote(asdict(RECORD)))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return asked


def test_sigterm_to_the_driver_reaches_the_workers_and_records_reach_the_driver(monitor):
    seen: list[StepRecord] = []
    with (
        pytest.raises(Preempted),
        StopToken().listening() as stop,
        stop.as_request(),
        watching(monitor, stop, seen.append),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        assert until_asked_to_stop(monitor)
    assert seen[0] == replace(RECORD, data={"quarantined_videos": 0.0})


def test_a_record_that_cannot_be_kept_neither_ends_training_nor_delays_its_stop(monitor, caplog):
    def refuse(record: StepRecord) -> None:
        raise OSError("the store is away")

    with (
        pytest.raises(Preempted),
        StopToken().listening() as stop,
        stop.as_request(),
        watching(monitor, stop, refuse),
    ):
        monitor.record.remote(asdict(RECORD))
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert until_asked_to_stop(monitor)
    assert caplog.text.count("could not be kept") == 1


def test_records_whose_answer_came_too_late_are_asked_for_again(tmp_path, monkeypatch):
    import ray

    class Slow(Monitor):
        late = False

        def since(self, taken: int) -> list[Record]:
            records = list(super().since(taken))
            if records and not self.late:
                self.late = True
                time.sleep(2.5)
            return records

    monkeypatch.setattr("tadscale.runtime.training.watch.LAST_RECORDS_S", 0.5)
    monitor = ray.remote(num_cpus=0)(Slow).remote(str(tmp_path / "q"), QuarantineBudget(), 1)
    steps: list[int] = []
    with watching(monitor, StopToken(), lambda record: steps.append(record.step)):
        for step in (1, 2):
            ray.get(monitor.record.remote(asdict(replace(RECORD, step=step))))
        deadline = time.monotonic() + 30
        while len(steps) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
    ray.kill(monitor)
    assert steps == [1, 2]


def test_training_that_does_not_answer_is_left(monitor, monkeypatch):
    import ray

    @ray.remote(num_cpus=0)
    def busy() -> None:
        time.sleep(60)

    monkeypatch.setattr("tadscale.runtime.training.watch.GRACE_S", 0.5)
    waited_for = busy.remote()
    started = time.monotonic()
    with (
        pytest.raises(Preempted),
        StopToken().listening() as stop,
        stop.as_request(),
        watching(monitor, stop, None),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        ray.get(waited_for)  # as Ray Train waits for its controller
    ray.cancel(waited_for, force=True)
    assert time.monotonic() - started < 30
