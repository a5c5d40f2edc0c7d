"""The job that is disturbed, and the process that runs it."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tadscale.network import Mode

ROOT = Path(__file__).resolve().parents[2]
MODE: Mode = "teacher"  # the cheapest job that goes through everything: fetching, a motion actor, two ranks, evaluation
PREEMPTED = 75


def settings(storage: str, data: str, epochs: int) -> dict[str, Any]:
    """A job of cheap windows: 8 steps an epoch, 30 windows of 16 frames of 32x32 pixels."""
    return {
        "kind": MODE,
        "name": "chaos",
        "storage": storage,
        "data": {
            "url": data,
            "sprites": {"train": 10, "validation": 1, "test": 2, "duration_s": 6, "fps": 5, "size": 32},
            "window": {"frames": 16, "stride_frames": 8, "fps": 5, "height": 32, "width": 32},
        },
        "motion": {"name": "temporal_gradient_fast"},
        "model": {
            "backbone": {"name": "small3d", "width": 4},
            "dim": 8,
            "head": {"name": "actionformer", "dim": 8, "levels": 2, "heads": 2, "stem_blocks": 1},
        },
        "optim": {"epochs": epochs, "global_batch": 4, "warmup_epochs": 0.5},
        "checkpoint_every_steps": 10,
        "cluster": {
            "workers": 2,
            "cpus_per_worker": 0.5,
            "cpus_per_fetch": 0.25,
            "motion_actors": 1,
            "cpus_per_motion": 0.5,
            "max_failures": 1000,
        },
        "tracking": {"experiment": "chaos"},
    }


class Driver:
    """`tadscale run`, always by the same command, however often it was ended.

    Args:
        folder: where the job file and the output lie.
        job: its settings.
        name: of the run.
        environment: what the process has.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> None:
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**job, "name": name}))
        self._command = [sys.executable, "-m", "tadscale", "run", str(path)]
        self._environment = dict(environment)
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Give the command."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )
        self.starts += 1

    def poll(self) -> int | None:
        """Its exit code, as `subprocess` has it; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def send(self, signal_number: int) -> int:
        """Send a signal; returns to which process."""
        assert self._process is not None
        self._process.send_signal(signal_number)
        return self._process.pid

    def end(self) -> None:
        """Leave nothing running."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The end of its output."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])
