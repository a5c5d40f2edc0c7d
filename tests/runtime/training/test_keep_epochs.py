"""Weights kept at the ends of epochs: of the right step, and the same after an interruption."""

from pathlib import Path

import pytest
import torch

from tadscale.engine.ema import Ema
from tadscale.engine.engine import LocalEngine, TrainState, select
from tadscale.engine.loop import Expected, train
from tadscale.engine.optim import OptimConfig
from tadscale.engine.steps import Lesson, StudentConfig, step_function
from tadscale.models.heads.objective import build_objective
from tadscale.network import NetworkSpec, load_network, save_network, spec_digest
from tadscale.runtime.stage.stopwatch import Stopwatch, TimeSplit
from tadscale.runtime.training.keep_epochs import KeepEpochs
from tests.engine.conftest import BATCH, EPOCHS, STEPS_PER_EPOCH, make_batch, tiny_model  # noqa: F401
from tests.runtime.conftest import WINDOW

OPTIM = OptimConfig(epochs=EPOCHS, global_batch=BATCH, lr=1e-2, warmup_epochs=0.5, ema_decay=0.9)


@pytest.fixture
def spec(tiny_model) -> NetworkSpec:  # noqa: F811
    return NetworkSpec(mode="baseline", model=tiny_model, classes=("a", "b"), window=WINDOW)


class Interrupted:
    """Keeps the state after some step, and stops there."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.state: TrainState | None = None

    def after_step(self, record, state) -> bool:
        if record.step + 1 == self.after:
            self.state = state()
        return record.step + 1 == self.after


def run(
    spec: NetworkSpec, folder: Path, state: TrainState | None = None, stop: int = 0
) -> tuple[TrainState | None, Ema]:
    """Train from the state on, keeping the first two epochs' weights; the state where it stopped, and the average."""
    torch.manual_seed(0)
    engine = LocalEngine(spec.build(for_training=True), OPTIM)
    ema = Ema(engine.model, OPTIM.ema_decay)
    first = state.step if state else 0
    if state:
        engine.load_state(state)
        ema.load(select(state.tensors, "ema/"))

    def save(epoch: int) -> None:
        save_network(str(folder / str(epoch)), spec, ema.tensors)

    kept, interrupted = KeepEpochs((1, 2), STEPS_PER_EPOCH, save, Stopwatch(TimeSplit())), Interrupted(stop)
    lesson = Lesson(objective=build_objective(spec.model.head, 2), student=StudentConfig(), global_batch=BATCH)
    total = EPOCHS * STEPS_PER_EPOCH
    expected = Expected(
        total_steps=total,
        steps_per_epoch=STEPS_PER_EPOCH,
        global_batch=BATCH,
        positions=lambda step: torch.arange(step * BATCH, (step + 1) * BATCH),
    )
    batches = (make_batch(step) for step in range(first, total))
    step = step_function("baseline", lesson)
    train(engine, step, batches, expected, OPTIM, first_step=first, ema=ema, callbacks=[kept, interrupted])
    return interrupted.state, ema


def test_the_average_at_the_end_of_each_wanted_epoch_is_kept(spec, tmp_path):
    _, ema = run(spec, tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["1", "2"]
    _, stopped = run(spec, tmp_path / "half", stop=2 * STEPS_PER_EPOCH)
    network, _ = load_network(str(tmp_path / "whole" / "2"))
    assert all(torch.equal(value, stopped.tensors[name]) for name, value in network.state_dict().items())
    assert any(not torch.equal(value, ema.tensors[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("stop", [STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 2])
def test_an_interrupted_run_keeps_the_same_bytes(spec, tmp_path, stop):
    """Also one that stops right at an epoch's end: its weights are there before the checkpoint is."""
    run(spec, tmp_path / "whole")
    state, _ = run(spec, tmp_path / "cut", stop=stop)
    run(spec, tmp_path / "cut", state)
    for epoch in ("1", "2"):
        assert spec_digest(str(tmp_path / "cut" / epoch)) == spec_digest(str(tmp_path / "whole" / epoch))
