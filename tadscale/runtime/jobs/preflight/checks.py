"""The list of all checks, and running them: `preflight(job)` raises one error that names every fault."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal, NamedTuple

from tadscale.errors import UserError
from tadscale.runtime.jobs.preflight import (
    cluster,
    gate,
    models,
    networks,
    places,
    schedule,
    storage,
    subsets,
    videos,
    windows,
)
from tadscale.runtime.jobs.preflight.bounded import within
from tadscale.runtime.jobs.preflight.doubts import doubts
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.jobs.preflight.tracking import tracking
from tadscale.runtime.stage.job import JobConfig

Reach = Literal["settings", "manifest", "services"]
"""What a check looks at: the settings alone; the manifests too, which for built-in videos follow from the settings; or the
outside world."""


class Check(NamedTuple):
    """One thing that can be known of a job before it runs."""

    name: str
    find: Callable[[Facts], Iterable[str]]
    """The faults; may also raise the `ValueError` or `OSError` that the job would meet later."""
    reach: Reach
    within_s: float = 60.0
    """How long the outside world may take to answer; what is worked out here takes as long as it takes."""


class Fault(NamedTuple):
    """What would fail."""

    check: str
    says: str


FINISHED_STAGES = "finished stages"
"""A check that a grid makes of all its cells together."""
CHECKS = (
    Check("packages", places.packages, "settings"),
    Check("places", places.urls, "settings"),
    Check("working directory", places.lasting, "settings"),
    Check("batch shares", schedule.shares, "settings"),
    Check("DeepSpeed preset", schedule.preset, "settings"),
    Check("windows", windows.coverage, "settings"),
    Check("picture size", windows.pictures, "settings"),
    Check("motion's weights", windows.motion_weights, "settings"),
    Check("network shapes", networks.shapes, "settings"),
    Check("frozen layers", networks.frozen, "settings"),
    Check("gate's budgets", gate.pace, "settings"),
    Check("subsets", subsets.exist, "manifest"),
    Check("segments", subsets.segments, "manifest"),
    Check("videos without a window", subsets.windows, "manifest"),
    Check("classes", subsets.classes, "manifest"),
    Check("frame rate", windows.rate, "manifest"),
    Check("plan", schedule.plan, "manifest"),
    Check("built-in videos", videos.drawn, "services"),
    Check("shards", videos.shards, "services"),
    Check("decoding", videos.decoding, "services"),
    Check("flow", videos.flow, "services"),
    Check("storage", storage.writable, "services"),
    Check("free space", storage.space, "services"),
    Check("object store", storage.spilling, "services"),
    Check("tracking store", tracking, "services", within_s=25.0),
    Check("teacher", models.teacher, "services"),
    Check("appearance teacher", models.appearance_teacher, "services"),
    Check("start", models.start, "services"),
    Check("gate", gate.champion, "services"),
    Check(FINISHED_STAGES, models.finished, "services"),
    Check("cluster", cluster.capacity, "services", within_s=28.0),
)
"""Every check, the cheapest first."""


class PreflightFailed(UserError):
    """A job cannot run to its end; found before anything was spent.

    Args:
        faults: all of them.
    """

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        lines = "\n".join(f"  {fault.check}: {fault.says}" for fault in faults)
        super().__init__(f"the job would not run to its end: {count}, found before anything was started\n{lines}")

    def __reduce__(self) -> tuple[type["PreflightFailed"], tuple[list[Fault]]]:
        return PreflightFailed, (self.faults,)


def preflight(job: JobConfig, *, services: bool = True, but_for: Collection[str] = ()) -> list[str]:
    """Find everything that would fail, and can be known without training.

    Args:
        job: as its file has it.
        services: also ask storage, tracking store and cluster; else only what the job file itself tells.
        but_for: names of checks that the caller makes itself.

    Returns:
        What is no fault, and is perhaps not meant: see `doubts`.

    Raises:
        PreflightFailed: something would; names every fault and what to do.
    """
    facts = Facts(job)
    faults: dict[str, Fault] = {}
    for check in applicable(facts, services=services):
        if check.name in but_for:
            continue
        for says in findings(check, facts):
            faults.setdefault(says, Fault(check.name, says))  # what several checks stumble over is told once
    if faults:
        raise PreflightFailed(list(faults.values()))
    looked_at = services and FINISHED_STAGES not in but_for
    return list(doubts(facts, of_stages=looked_at)) if services or facts.draws else []


def applicable(facts: Facts, *, services: bool) -> Iterator[Check]:
    """The checks that can be made."""
    for check in CHECKS:
        known = check.reach == "settings" or (check.reach == "manifest" and facts.draws)
        if services or known:
            yield check


def findings(check: Check, facts: Facts) -> list[str]:
    """The faults that a check finds, in bounded time."""
    found: list[str] = []
    try:
        if check.reach == "services":
            within(check.within_s, lambda: found.extend(check.find(facts)), check.name)
        else:
            found.extend(check.find(facts))
    except (ValueError, OSError) as error:
        found.append(str(error))
    return found
