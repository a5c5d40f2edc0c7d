"""The one training loop, for every mode."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from tadscale.engine.batch import WindowBatch
from tadscale.engine.ema import Ema
from tadscale.engine.engine import Diverged, Engine, NonFiniteGradient, TrainState
from tadscale.engine.memory import memory_in_use
from tadscale.engine.optim import OptimConfig, learning_rate
from tadscale.engine.pace import Pace
from tadscale.engine.steps import StepFunction


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What one step was like: one line of the log."""

    step: int
    total_steps: int
    epoch: int
    losses: dict[str, float] = field(default_factory=dict)
    lr: float
    grad_norm: float
    windows_per_s: float
    """Of late, as all rates here; see `tadscale.engine.pace`."""
    data_wait_share: float
    memory_mib: float
    """Of the process alone; see `tadscale.engine.memory`."""
    eta_s: float
    mean_windows_per_s: float = 0.0  # logs of earlier versions lack this and what follows
    shared_memory_mib: float = 0.0
    gpu_memory_mib: float = 0.0
    data: dict[str, float] = field(default_factory=dict)
    """What those who bring the batches say of themselves, by name; the loop says nothing here."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the plan promises this rank: how many steps there are, and which positions each brings."""

    total_steps: int
    steps_per_epoch: int
    global_batch: int
    positions: Callable[[int], Tensor]
    """Step to this rank's positions `[B]`, in order."""
    videos: Callable[[int], Sequence[str]] = lambda step: ()
    """Step to the videos of its global batch, for messages."""


class Callback(Protocol):
    """Something that watches the loop; called on every rank after every step."""

    def after_step(self, record: StepRecord, state: Callable[[], TrainState]) -> bool:
        """See the step's record; `state()` gathers the full state (all ranks must then ask for it). True stops."""
        ...


def train(
    engine: Engine,
    step_function: StepFunction,
    batches: Iterator[WindowBatch],
    expected: Expected,
    config: OptimConfig,
    *,
    first_step: int = 0,
    ema: Ema,
    callbacks: Sequence[Callback] = (),
) -> int:
    """Train from `first_step` to the end of the plan, or until a callback stops.

    Every batch is checked against the plan: rows that are out of place are an error at once, never a silent drift.

    Returns:
        Optimiser steps taken in all, those before `first_step` included.

    Raises:
        RuntimeError: a batch is not the plan's, or the batches end early.
        Diverged: loss or gradient are not finite.
    """
    engine.model.train()
    pace = Pace(expected.global_batch)
    for step in range(first_step, expected.total_steps):
        batch = pace.wait(lambda: next(batches, None))
        check_positions(batch, expected.positions(step), step)
        assert batch is not None
        lr = learning_rate(config, step, expected.steps_per_epoch)
        engine.set_lr(lr)
        losses = step_function(engine.model, batch)
        engine.backward(losses["loss"])
        grad_norm = _step(engine, expected, step, losses)
        ema.update(engine.model, step)
        means = engine.mean(torch.stack([value.detach().float() for value in losses.values()])).tolist()
        named = dict(zip(losses, means, strict=True))
        check_finite(named, step)
        rates, memory = pace.step(), memory_in_use()
        record = StepRecord(
            step=step,
            total_steps=expected.total_steps,
            epoch=step // expected.steps_per_epoch,
            losses=named,
            lr=lr,
            grad_norm=grad_norm,
            windows_per_s=rates.windows_per_s,
            mean_windows_per_s=rates.mean_windows_per_s,
            data_wait_share=rates.data_wait_share,
            memory_mib=memory.own,
            shared_memory_mib=memory.shared,
            gpu_memory_mib=memory.gpu,
            eta_s=rates.step_s * (expected.total_steps - step - 1),
        )
        # Every callback is asked, in order, on every rank: one may gather state, which is collective.
        stops = [callback.after_step(record, partial(full_state, engine, ema, step + 1)) for callback in callbacks]
        if any(stops):
            return step + 1
    return expected.total_steps


def _step(engine: Engine, expected: Expected, step: int, losses: dict[str, Tensor]) -> float:
    try:
        return engine.step()
    except NonFiniteGradient as error:
        videos = ", ".join(expected.videos(step)) or "unknown"
        raise Diverged(
            f"step {step}: a gradient is not finite{not_finite(losses)}; no weight was changed, and the last checkpoint is "
            f"good. Its videos: {videos}. Look at them (tadscale data lint --decode), "
            "lower optim.lr or raise optim.warmup_epochs; at the first step look at the losses of a head of your own"
        ) from error


def not_finite(losses: dict[str, Tensor]) -> str:
    """Which parts of the loss are not, for a sentence that says what else is not; empty if all are finite."""
    broken = [name for name, value in losses.items() if not value.isfinite().all()]
    return f", nor is the loss ({', '.join(broken)})" if broken else ""


def full_state(engine: Engine, ema: Ema, step: int) -> TrainState:
    """The engine's state with the averaged weights beside it, all of it copies: training goes on while it is written."""
    state = engine.state(step)
    average = {f"ema/{name}": value.clone() for name, value in ema.tensors.items()}
    return TrainState(step=step, tensors=state.tensors | average)


def check_positions(batch: WindowBatch | None, expected: Tensor, step: int) -> None:
    """Refuse a batch that is not the one the plan has for this rank at this step."""
    if batch is None:
        raise RuntimeError(
            f"step {step}: the data ended before the plan did. Rows were lost on the way to this worker; "
            "nothing was trained on in their place. Restart the run: it resumes from its last checkpoint."
        )
    got = batch.positions.cpu()
    if not torch.equal(got, expected):
        raise RuntimeError(
            f"step {step}: expected the plan's positions {expected.tolist()}, received {got.tolist()}. The pipeline "
            "delivered rows out of order or to the wrong worker; nothing was trained on them."
        )


def check_finite(losses: dict[str, float], step: int) -> None:
    """Stop at the first loss that is not a number: what follows it would only bury the cause."""
    if not all(map(math.isfinite, losses.values())):
        raise Diverged(f"step {step}: a loss is not finite: {losses}. Lower optim.lr or raise optim.warmup_epochs.")
