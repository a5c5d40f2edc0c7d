"""The loop: it learns, refuses what is not the plan's, stops when told, and resumes bit for bit."""

from dataclasses import replace

import pytest
import torch

from tadscale.engine.ema import Ema
from tadscale.engine.engine import LocalEngine
from tadscale.engine.loop import train
from tadscale.engine.optim import OptimConfig
from tadscale.engine.steps import Lesson, StudentConfig, step_function
from tadscale.models.detector import Detector
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.heads.actionformer.objective import ActionFormerObjective
from tests.engine.conftest import BATCH, STEPS_PER_EPOCH, make_batch

CONFIG = OptimConfig(epochs=3, global_batch=2, lr=5e-3, warmup_epochs=0.5)
OBJECTIVE = ActionFormerObjective(ActionFormerConfig(min_positives=1), 2)
STEP = step_function("baseline", Lesson(objective=OBJECTIVE, student=StudentConfig(), global_batch=BATCH))


class Recorder:
    """Keeps every record; stops, and keeps the state, after a given step."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.records, self.stop_after, self.state = [], stop_after, None

    def after_step(self, record, state) -> bool:
        self.records.append(record)
        if record.step == self.stop_after:
            self.state = state()
        return record.step == self.stop_after

    @property
    def losses(self) -> list[float]:
        return [record.losses["loss"] for record in self.records]


def _start(tiny_model):
    torch.manual_seed(0)
    engine = LocalEngine(Detector(tiny_model, in_channels=3, num_classes=2), CONFIG)
    return engine, Ema(engine.model, CONFIG.ema_decay)


def _train(engine, ema, batches, expected, *, first_step=0, stop_after=None):
    recorder = Recorder(stop_after)
    steps = train(
        engine, STEP, batches(first_step), expected, CONFIG, first_step=first_step, ema=ema, callbacks=[recorder]
    )
    return steps, recorder


def test_loss_falls_and_every_record_is_filled(tiny_model, batches, expected):
    steps, recorder = _train(*_start(tiny_model), batches, expected)
    assert steps == expected.total_steps
    assert sum(recorder.losses[-4:]) < 0.8 * sum(recorder.losses[:4])
    last = recorder.records[-1]
    assert (last.step, last.epoch, last.eta_s) == (11, 2, 0.0)
    assert last.windows_per_s > 0 and last.mean_windows_per_s > 0
    assert 0 <= last.data_wait_share < 1
    assert last.memory_mib > 10


@pytest.mark.parametrize("stop_after", [6, 2 * STEPS_PER_EPOCH - 1], ids=["within an epoch", "on an epoch's border"])
def test_stopped_and_resumed_training_is_bit_for_bit_the_same(stop_after, tiny_model, batches, expected):
    engine, ema = _start(tiny_model)
    _, whole = _train(engine, ema, batches, expected)
    steps, first = _train(*_start(tiny_model), batches, expected, stop_after=stop_after)
    assert steps == stop_after + 1
    assert first.state is not None

    resumed, resumed_ema = _start(tiny_model)
    resumed.load_state(first.state)
    resumed_ema.load(
        {name.removeprefix("ema/"): t for name, t in first.state.tensors.items() if name.startswith("ema/")}
    )
    _, second = _train(resumed, resumed_ema, batches, expected, first_step=stop_after + 1)
    assert first.losses + second.losses == whole.losses
    assert all(torch.equal(resumed_ema.tensors[name], value) for name, value in ema.tensors.items())


def test_a_batch_that_is_not_the_plans_is_refused(tiny_model, expected):
    engine, ema = _start(tiny_model)
    swapped = iter([make_batch(0), make_batch(2)])
    with pytest.raises(RuntimeError, match=r"step 1: expected the plan's positions \[2, 3\], received \[4, 5\]"):
        train(engine, STEP, swapped, expected, CONFIG, ema=ema)


def test_data_that_end_early_are_an_error(tiny_model, expected):
    engine, ema = _start(tiny_model)
    with pytest.raises(RuntimeError, match="step 1: the data ended before the plan did"):
        train(engine, STEP, iter([make_batch(0)]), expected, CONFIG, ema=ema)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model, batches, expected):
    engine, ema = _start(tiny_model)
    with torch.no_grad():
        engine.model.head.embed.weight.fill_(torch.nan)
    with pytest.raises(RuntimeError, match=r"a gradient is not finite, nor is the loss \(loss\);"):
        _train(engine, ema, batches, expected)


def test_a_gradient_that_is_not_finite_stops_before_the_optimiser_and_names_the_videos(tiny_model, batches, expected):
    engine, ema = _start(tiny_model)
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    engine.backward = lambda loss: (loss * torch.inf).backward()
    named = replace(expected, videos=lambda step: ["train-7"])
    with pytest.raises(RuntimeError, match=r"step 0: a gradient is not finite; .*train-7"):
        _train(engine, ema, batches, named)
    assert all(torch.equal(value, before[name]) for name, value in engine.model.state_dict().items())


def test_invalid_slots_weigh_nothing(tiny_model):
    engine, _ = _start(tiny_model)
    valid, half = make_batch(0), make_batch(0, valid=(True, False))
    first = Detector.forward(engine.model, valid.frames.permute(0, 4, 1, 2, 3) / 127.5 - 1, valid.mask).predictions
    per_window = OBJECTIVE.loss(first, valid.targets)
    torch.testing.assert_close(STEP(engine.model, half)["loss"], per_window[0] / 2)
    torch.testing.assert_close(STEP(engine.model, valid)["loss"], per_window.mean())
