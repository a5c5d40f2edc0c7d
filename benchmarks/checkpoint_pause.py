"""For how long a checkpoint stops training: written within the step, and written beside it. Local files and S3.

    python -m benchmarks.checkpoint_pause [--values 50] [--latency-ms 20] [--repeats 3]

A network of some millions of values, its two moments and its average: four times as many in a checkpoint. "Within the
step" is gathering, log, serialising, uploading, verifying, marker, one after the other, by the functions that the thread
calls now; the log is one of 10,000 lines, written whole. "Beside it" is what `CheckpointEvery` pauses for. While the thread
writes, training steps go on here, and how much longer they take is measured too: the thread needs a core. S3 is moto on
loopback, every request later by the latency. Wall clock, medians; one thread for torch.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.s3 import s3_bucket
from tadscale.data.storage import join, write_bytes
from tadscale.engine.ema import Ema
from tadscale.engine.engine import LocalEngine, TrainState
from tadscale.engine.loop import StepRecord, full_state
from tadscale.engine.optim import OptimConfig
from tadscale.runtime.stage.stopwatch import Stopwatch, TimeSplit
from tadscale.runtime.training.checkpoint_writer import CheckpointWriter
from tadscale.runtime.training.checkpoints import CheckpointStore
from tadscale.runtime.training.stage_log import Parts, StageLog, divide

WIDTH, LOG_LINES = 1024, 10_000
RECORD = StepRecord(
    step=0,
    total_steps=LOG_LINES,
    epoch=0,
    losses=dict.fromkeys(("loss", "joint", "appearance", "feature", "prediction"), 0.123456789012345),
    lr=5e-4,
    grad_norm=1.23456789,
    windows_per_s=12.3456789,
    data_wait_share=0.123456789,
    memory_mib=1234.56789,
    eta_s=1234.56789,
)


class Pauses(NamedTuple):
    """Of one place, seconds."""

    within_s: float
    beside_s: float
    background_s: float
    step_s: float
    """A training step while nothing is written."""
    disturbed_step_s: float
    """A training step while the thread writes."""


class LastPart:
    """A log whose newest part is half full."""

    def __init__(self, stored: StageLog) -> None:
        self._stored = stored
        self._lines = divide(log_lines()[:2048])

    def take(self) -> Parts:
        """See `GrowingLog`."""
        return self._lines

    def write(self, parts: Parts) -> None:
        """See `GrowingLog`."""
        self._stored.write(parts)


class Training:
    """A network that is trained on noise."""

    def __init__(self, millions: int) -> None:
        torch.manual_seed(0)
        layers = max(1, round(millions * 1e6 / WIDTH**2))
        self._engine = LocalEngine(nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers))), OptimConfig())
        self._engine.set_lr(1e-8)  # noise teaches nothing, and must not make what is not finite
        self._ema = Ema(self._engine.model, 0.99)
        self.taken = 0

    def step(self) -> float:
        """One step; the seconds that it took."""
        started = time.perf_counter()
        self._engine.backward(self._engine.model(torch.randn(4, WIDTH)).square().mean())
        self._engine.step()
        self._ema.update(self._engine.model, self.taken)
        self.taken += 1
        return time.perf_counter() - started

    def state(self) -> TrainState:
        """As the loop gathers it."""
        return full_state(self._engine, self._ema, self.taken)


def main(argv: list[str] | None = None) -> None:
    """Measure on local files and on S3, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=50, help="millions of values in the network")
    parser.add_argument("--latency-ms", type=float, default=20.0, help="of every request to S3")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    training = Training(arguments.values)
    training.step()
    with tempfile.TemporaryDirectory() as folder:
        say("local", measure(training, folder, arguments.repeats))
    with s3_bucket(arguments.latency_ms / 1000) as bucket:
        say("S3", measure(training, bucket.url, arguments.repeats))


def measure(training: Training, url: str, repeats: int) -> Pauses:
    """Checkpoints at a URL, both ways by turns."""
    steps = [training.step() for _ in range(5)]
    seen = [(within_the_step(training, url), *beside_the_step(training, url)) for _ in range(repeats)]
    within, beside, background, disturbed = (median(column) for column in zip(*seen, strict=True))
    return Pauses(within, beside, background, median(steps), disturbed)


def within_the_step(training: Training, url: str) -> float:
    """Seconds for which the step waited when everything was done in it."""
    started = time.perf_counter()
    state = training.state()
    write_bytes(join(url, "log.jsonl"), "".join(f"{line}\n" for line in log_lines()).encode())
    CheckpointStore(join(url, "within")).save(state, {"losses": RECORD.losses})
    return time.perf_counter() - started


def beside_the_step(training: Training, url: str) -> tuple[float, float, float]:
    """The pause, the thread's seconds, and the median step while it writes."""
    stopwatch = Stopwatch(TimeSplit())
    lines = LastPart(StageLog(join(url, "beside.jsonl"), join(url, "log")))
    with CheckpointWriter(CheckpointStore(join(url, "beside")), lines, {}, stopwatch) as writer:
        pause = timed(lambda: writer.write(training.state(), RECORD.losses))
        steps = [training.step()]
        while stopwatch.checkpoint_background_s == 0.0:
            writer.check()
            steps.append(training.step())
    return pause, stopwatch.checkpoint_background_s, median(steps)


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def log_lines() -> list[str]:
    """A log of many steps."""
    more = {"positions": [[0, 3], [4, 7]], "valid": 8, "fetch": {"requests": 8, "fetched": 1234567, "unplanned": 0}}
    return [json.dumps(asdict(RECORD) | {"step": step} | more) for step in range(LOG_LINES)]


def say(place: str, pauses: Pauses) -> None:
    """One line."""
    sys.stdout.write(
        f"{place:<5} training stops for {pauses.within_s:.2f} s within the step, {pauses.beside_s:.2f} s beside it: "
        f"{pauses.within_s / pauses.beside_s:.1f} times less. The thread takes {pauses.background_s:.2f} s; a step "
        f"meanwhile {pauses.disturbed_step_s:.2f} s, alone {pauses.step_s:.2f} s\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
