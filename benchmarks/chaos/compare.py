"""Whether a training that was disturbed is the one that was not: every step once, in order, the same to the bit."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

FIGURES = ("losses", "lr", "grad_norm", "epoch", "valid")
"""What has to be equal, as JSON has it: it keeps every bit of a number. Rates, memory and what was fetched may differ."""
SHOWN = 5  # faults of a kind


def differences(log: str, undisturbed: str, total_steps: int, global_batch: int) -> list[str]:
    """What is wrong with a finished log; empty if nothing is.

    Args:
        log: JSON lines of the run that was disturbed.
        undisturbed: those of the same job left in peace, at the same world size.
        total_steps: of the plan.
        global_batch: windows of a step, so that step `k` is of positions `k * global_batch` and those that follow.
    """
    lines, expected = ([json.loads(line) for line in text.splitlines()] for text in (log, undisturbed))
    return [
        *_steps(lines, total_steps),
        *_positions(lines, global_batch),
        *(f"undisturbed: {fault}" for fault in _steps(expected, total_steps)),
        *_figures(lines, {line["step"]: line for line in expected}),
    ]


def _steps(lines: Sequence[dict[str, Any]], total_steps: int) -> list[str]:
    steps = [line["step"] for line in lines]
    counted = Counter(steps)
    repeated = [step for step, times in counted.items() if times > 1]
    missing = [step for step in range(total_steps) if step not in counted]
    beyond = [step for step in counted if not 0 <= step < total_steps]
    kinds = {"trained more than once": repeated, "missing": missing, "not in the plan": beyond}
    faults = [f"steps {kind}: {_some(which)}" for kind, which in kinds.items() if which]
    if not faults and steps != sorted(steps):
        faults.append("steps out of order")
    return faults


def _positions(lines: Sequence[dict[str, Any]], global_batch: int) -> list[str]:
    """Ranks hold spans `[first, last]`; together they are the step's positions of the plan, in order."""
    wrong = []
    for line in lines:
        first = line["step"] * global_batch
        trained = [position for start, last in line["positions"] for position in range(start, last + 1)]
        if trained != list(range(first, first + global_batch)):
            wrong.append(line["step"])
    return [f"steps of other positions than the plan's: {_some(wrong)}"] if wrong else []


def _figures(lines: Sequence[dict[str, Any]], expected: dict[int, dict[str, Any]]) -> list[str]:
    faults = []
    for figure in FIGURES:
        other = [
            line["step"]
            for line in lines
            if line["step"] in expected and line[figure] != expected[line["step"]][figure]
        ]
        if other:
            faults.append(f"steps whose {figure} differ from the undisturbed run's: {_some(other)}")
    return faults


def _some(steps: Sequence[int]) -> str:
    more = f" and {len(steps) - SHOWN} more" if len(steps) > SHOWN else ""
    return ", ".join(map(str, steps[:SHOWN])) + more
