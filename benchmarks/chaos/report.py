"""What a chaos run has to tell."""

import os
import platform
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.chaos.job import PREEMPTED


class Event(NamedTuple):
    """One fault."""

    at_s: float
    checkpoint: int
    """Step of the newest one."""
    kind: str
    met: str
    """Whom, and how."""


class Ended(NamedTuple):
    """One end of the driver before the job's."""

    at_s: float
    code: int
    last_words: str


@dataclass
class Report:
    """Filled as the run goes on."""

    seed: int = 0
    peace_s: float = 0.0
    seconds: float = 0.0
    starts: int = 0
    steps: int = 0
    positions: int = 0
    requests: int = 0
    events: list[Event] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)
    faults_found: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """All of it."""
        return "\n\n".join([self._verdict(), self._run(), self._events(), *self._unasked()]) + "\n"

    def _verdict(self) -> str:
        if self.faults_found:
            return "**Broken**:\n\n" + "\n".join(f"- {fault}" for fault in self.faults_found)
        return (
            f"**Held**: {self.steps} steps, each once and in order; {self.positions} positions, exactly the plan's; losses, "
            "gradient norms, learning rates and trained weights equal to the undisturbed run's, bit for bit."
        )

    def _run(self) -> str:
        ends = Counter(end.code for end in self.ends)
        storage = ", ".join(f"{kind} {times}" for kind, times in sorted(self.met.items()))
        return (
            f"Seed {self.seed}, {os.cpu_count()} CPUs, Python {platform.python_version()}. Undisturbed "
            f"{self.peace_s:.0f} s, disturbed {self.seconds:.0f} s. The command was given {self.starts} times: "
            f"{ends[-9]} times killed, {ends[PREEMPTED]} times told to stop (exit code {PREEMPTED}), "
            f"{len(self._unasked())} times ended otherwise before its end. Of {self.requests} requests to S3 "
            f"{sum(self.met.values())} met a fault: {storage}."
        )

    def _events(self) -> str:
        rows = [f"| {at_s:.1f} | {step} | {kind} | `{met}` |" for at_s, step, kind, met in self.events]
        return "\n".join(["| s | newest checkpoint | fault | met |", "|---|---|---|---|", *rows])

    def _unasked(self) -> list[str]:
        ends = [end for end in self.ends if end.code not in (-9, PREEMPTED)]
        return [f"Ended with {end.code} after {end.at_s:.0f} s:\n\n```\n{end.last_words}\n```" for end in ends]
