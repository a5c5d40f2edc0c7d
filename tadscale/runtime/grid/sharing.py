"""What a grid's cells have in common, and is trained once: teachers, and other stages that are equal."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from tadscale.runtime.grid.spec import Cell
from tadscale.runtime.models.open_model import MODELS
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import Stage, planned_stages
from tadscale.runtime.training.adopt import adopt
from tadscale.runtime.training.resume import finished_as_set


def with_shared_teachers(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, each of whose jobs names the teacher that another cell trains, where its own would be the same.

    That is one which is finished already, so that a choice may be put before others later; else the first cell's.

    Raises:
        StorageError: the storage cannot be reached.
    """
    own = {cell.name: _own_teacher(cell) for cell in cells}
    equal = EqualStages(teacher for teacher in own.values() if teacher)

    def with_shared(cell: Cell) -> Cell:
        teacher = own[cell.name]
        others = equal.of(teacher) if teacher else []
        if teacher is None or len(others) < 2:
            return cell
        shared = next((other for other in others if finished_as_set(other)), others[0]).weights_url
        if shared == teacher.weights_url:
            return cell
        return cell._replace(jobs={mode: _with_teacher(job, shared) for mode, job in cell.jobs.items()})

    return [with_shared(cell) for cell in cells]


class EqualStages:
    """Which stages come to the same, told before any is trained: by their settings and the places of what they rest on.

    Args:
        stages: in the order in which they are trained, each after those that it rests on.
    """

    def __init__(self, stages: Iterable[Stage]) -> None:
        self._equal: dict[str, dict[str, Stage]] = defaultdict(dict)  # by what they are, by where they lie
        self._of_weights: dict[str, str] = {}
        for stage in stages:
            what = self._what(stage)
            self._equal[what].setdefault(stage.url, stage)
            self._of_weights[stage.weights_url] = what

    @classmethod
    def of_cells(cls, cells: Iterable[Cell]) -> "EqualStages":
        """Those of all jobs of a grid."""
        return cls(stage for cell in cells for job in cell.jobs.values() for stage in planned_stages(job))

    def __iter__(self) -> Iterator[list[Stage]]:
        """Groups of stages that come to the same, each place once."""
        return (list(stages.values()) for stages in self._equal.values())

    def of(self, stage: Stage) -> list[Stage]:
        """The group of one."""
        return list(self._equal.get(self._what(stage), {}).values())

    def adopt(self, job: JobConfig) -> dict[str, str]:
        """Give a job's stages that were not begun what equal ones of other cells have left.

        Returns:
            Whose each took, by mode.

        Raises:
            StorageError: the storage cannot be reached.
        """
        taken: dict[str, str] = {}
        for stage in planned_stages(job):
            if source := adopt(stage, [other for other in self.of(stage) if other.url != stage.url]):
                taken[stage.mode] = source
        return taken

    def _what(self, stage: Stage) -> str:
        """All that decides what a stage comes to. A model of the registry stands for itself alone: its alias may move."""
        rests_on = {"start": stage.start_url, "teacher": stage.teacher_url, "appearance": stage.appearance_url}
        own = [stage.url] if any(url and url.startswith(MODELS) for url in rests_on.values()) else []
        contents = {name: self._of_weights.get(url or "", url) for name, url in rests_on.items()}
        job = stage.job
        motion = job.motion.model_dump(mode="json") if stage.needs_motion else None
        plan = stage.plan.model_dump(mode="json")
        facts = [stage.identity, plan, motion, contents, own]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _with_teacher(job: JobConfig, url: str) -> JobConfig:
    """The job with a teacher that it need not train; what that says is kept where it was to be kept."""
    untrained = {"url": url, "lr": None, "warmup_epochs": None}
    return job.model_copy(update={"teacher": job.teacher.model_copy(update=untrained)})


def _own_teacher(cell: Cell) -> Stage | None:
    """The teacher that a cell's jobs have in common; None where they name one."""
    stages = planned_stages(next(iter(cell.jobs.values())))
    return next((stage for stage in stages if stage.mode == "teacher"), None)
