"""Checkpoints beside the steps: the state of their step, one at a time, and no failure unheard."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from tadscale.data.storage import StorageError
from tadscale.engine.ema import Ema
from tadscale.engine.engine import Diverged, LocalEngine, TrainState
from tadscale.engine.loop import train
from tadscale.engine.optim import OptimConfig
from tadscale.engine.state import GROUPS, save_state
from tadscale.engine.steps import Lesson, StudentConfig, step_function
from tadscale.models.detector import Detector
from tadscale.models.heads.objective import build_objective
from tadscale.runtime.stage.stopwatch import Stopwatch, TimeSplit
from tadscale.runtime.training.callbacks import CheckpointEvery
from tadscale.runtime.training.checkpoint_writer import CheckpointWriter
from tadscale.runtime.training.checkpoints import CheckpointStore
from tadscale.runtime.training.rank_report import GO_ON, PREEMPTED
from tests.engine.conftest import BATCH, batches, expected, tiny_model  # noqa: F401
from tests.runtime.training.test_checkpoints import state
from tests.runtime.training.test_monitor import RECORD

PATIENCE_S = 30.0


class Lines:
    """Notes how much of the log was written, and in which order with checkpoints."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def take(self) -> dict[int, list[str]]:
        return {}

    def write(self, parts) -> None:
        self.written.append("log")


class GatedStore(CheckpointStore):
    """Writes when the test lets it."""

    def __init__(self, url: str, events: list[str]) -> None:
        super().__init__(url)
        object.__setattr__(self, "gate", threading.Event())
        object.__setattr__(self, "events", events)

    def save(self, state, meta) -> None:
        self.events.append(f"begin {state.step}")
        assert self.gate.wait(PATIENCE_S)
        super().save(state, meta)
        self.events.append(f"end {state.step}")


class Told:
    """Stands for the ranks' agreement."""

    stop = GO_ON
    node_leaves = False


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def store(tmp_path, lines) -> GatedStore:
    return GatedStore(str(tmp_path / "checkpoints"), lines.written)


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch(TimeSplit())


@pytest.fixture
def writer(store, lines, stopwatch):
    writer = CheckpointWriter(store, lines, {"plan_digest": "of this plan"}, stopwatch)
    yield writer
    store.gate.set()


def test_a_write_returns_at_once_and_the_next_one_waits(writer, store, stopwatch, lines):
    with writer:
        writer.write(state(5), {"loss": 1.0})
        second = threading.Thread(target=writer.write, args=(state(10), {"loss": 0.5}))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert store.load_latest() is None
        store.gate.set()
        second.join(PATIENCE_S)
    assert lines.written == ["log", "begin 5", "end 5", "log", "begin 10", "end 10"]
    assert store.steps() == [10, 5]
    loaded, meta = store.load_latest()
    assert loaded.tensors["exp_avg/w"].unique().tolist() == [10.0]
    assert (meta["losses"], meta["plan_digest"]) == ({"loss": 0.5}, "of this plan")
    assert stopwatch.checkpoint_background_s >= 0.2
    assert stopwatch.checkpoint_s == 0.0  # counted where training waits


@pytest.mark.parametrize("broken", [Diverged, StorageError])
def test_a_failed_write_is_raised_by_whoever_comes_next(broken, writer, store, monkeypatch):
    def fail(self, state, meta) -> None:
        raise broken("as it happened")

    monkeypatch.setattr(GatedStore, "save", fail)
    for following in (writer.wait, lambda: writer.write(state(10), {}), lambda: until_checked(writer)):
        writer.write(state(5), {})
        with pytest.raises(broken, match="as it happened"):
            following()
        writer.check()  # and is raised once
    with pytest.raises(broken), writer:
        writer.write(state(5), {})


def until_checked(writer: CheckpointWriter) -> None:
    """As the steps that follow do; whoever never hears of the failure runs out of patience."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        writer.check()
        time.sleep(0.01)


def test_the_end_waits_and_an_earlier_error_comes_first(writer, store, monkeypatch, caplog):
    threading.Timer(0.2, store.gate.set).start()
    with pytest.raises(RuntimeError, match="the data ended"), writer:
        writer.write(state(5), {})
        raise RuntimeError("the data ended")
    assert store.load_latest()[0].step == 5

    def fail(self, state, meta) -> None:
        raise StorageError("away")

    monkeypatch.setattr(GatedStore, "save", fail)
    with (
        pytest.raises(RuntimeError, match="the data ended"),
        CheckpointWriter(store, Lines(), {}, Stopwatch(TimeSplit())) as other,
    ):
        other.write(state(10), {})
        raise RuntimeError("the data ended")
    assert "could not be written" in caplog.text


class Snapshots:
    """Takes every state twice: for the checkpoint under test, and written at once by `save_state`."""

    def __init__(self, folder: str, every: CheckpointEvery) -> None:
        self.folder, self.every, self.steps = folder, every, []

    def after_step(self, record, state) -> bool:
        def both() -> TrainState:
            save_state(f"{self.folder}/step-{record.step + 1:08d}", state(), {})
            self.steps.append(record.step + 1)
            return state()

        return self.every.after_step(record, both)


def test_the_files_are_those_of_their_step_though_training_went_on(
    tiny_model,  # noqa: F811
    batches,  # noqa: F811
    expected,  # noqa: F811
    writer,
    store,
    stopwatch,
    tmp_path,
):
    """Weights, moments and average of step 4 are written when five more steps were taken, to the same bytes."""
    config = OptimConfig(epochs=3, global_batch=BATCH, lr=5e-3, warmup_epochs=0.5)
    lesson = Lesson(objective=build_objective(tiny_model.head, 2), student=StudentConfig(), global_batch=BATCH)
    torch.manual_seed(0)
    engine = LocalEngine(Detector(tiny_model, in_channels=3, num_classes=2), config)
    snapshots = Snapshots(str(tmp_path / "at-once"), CheckpointEvery(4, Told(), stopwatch, writer))

    class OpensLate:
        def after_step(self, record, state) -> bool:
            if record.step == 6:
                store.gate.set()
            return False

    with writer:
        train(
            engine,
            step_function("baseline", lesson),
            batches(0),
            expected,
            config,
            ema=Ema(engine.model, 0.9),
            callbacks=[OpensLate(), snapshots],
        )
    assert snapshots.steps == [4, 8, 12]
    assert store.steps() == [12, 8]
    for step in store.steps():
        for group in GROUPS:
            written, at_once = (
                (tmp_path / place / f"step-{step:08d}" / f"{group}.safetensors").read_bytes()
                for place in ("checkpoints", "at-once")
            )
            assert written == at_once, (step, group)


@pytest.mark.parametrize("why", ["the plan's end", "a preemption", "a node leaves"])
def test_what_nothing_may_follow_is_waited_for(why, writer, store, stopwatch):
    told, record = Told(), RECORD  # step 3 of 10
    every = CheckpointEvery(4, told, stopwatch, writer)
    threading.Timer(0.2, store.gate.set).start()
    if why == "the plan's end":
        record = replace(RECORD, step=9)
    elif why == "a preemption":
        told.stop = PREEMPTED
    else:
        told.node_leaves = True
    assert not every.after_step(record, lambda: state(record.step + 1))
    assert store.load_latest()[0].step == record.step + 1
    assert stopwatch.checkpoint_s >= 0.15
    writer.wait()


def test_a_checkpoint_that_is_merely_due_is_not_waited_for(writer, store, stopwatch):
    every = CheckpointEvery(4, Told(), stopwatch, writer)
    every.after_step(RECORD, lambda: state(4))
    assert store.load_latest() is None
    threading.Timer(0.2, store.gate.set).start()
    every.after_step(replace(RECORD, step=7), lambda: state(8))
    assert stopwatch.checkpoint_s >= 0.15  # the second waited for the first, and that is counted
    writer.wait()
    assert store.steps() == [8, 4]


def test_other_ranks_only_take_part_in_gathering(stopwatch):
    gathered: list[int] = []

    def gather() -> TrainState:
        gathered.append(1)
        return state(4)

    every = CheckpointEvery(4, Told(), stopwatch, None)
    for step in range(8):
        every.after_step(replace(RECORD, step=step), gather)
    assert len(gathered) == 2
