"""What a grid is: a job file, axes of changes to it, modes of distillation, seeds."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, StringConstraints, TypeAdapter, field_validator

from tadscale.config import Config
from tadscale.data.storage import join
from tadscale.errors import UserError
from tadscale.runtime.jobs.job_file import read_yaml, resolve
from tadscale.runtime.jobs.settings import apply_override, build_settings, merged
from tadscale.runtime.retrain.spec import RetrainConfig
from tadscale.runtime.stage.job import JobConfig

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""Names a choice: a part of run names, a cell of the table."""
StudentMode = Literal["conventional", "decomposed"]
OWNED = {
    "seed": "write it under `seeds`",
    "student.mode": "write it under `modes`",
    "name": "cells are named by their choices",
    "storage": "set the grid's own",
    "kind": "cells are of kind distill",
}
"""Settings of a job that the grid itself decides, and what to do instead of setting one."""


class GridConfig(Config):
    """One job, over every combination of its axes' choices and of seeds."""

    kind: Literal["grid"]
    """Tells a grid's file from a job's."""
    name: Word
    """Name of the grid; the same name and storage resume it."""
    storage: str = Field(min_length=1)
    """Folder or object-store prefix; the grid's runs lie under STORAGE/NAME."""
    job: str
    """The job file that every cell runs, of kind distill; beside the grid's own file, or an absolute path."""
    settings: dict[str, Any] = {}
    """Changes to that job for all cells, written as in a job file."""
    axes: dict[Word, dict[Word, dict[str, Any]]] = Field(min_length=1)
    """What is varied: for each axis its choices by name, each a tree of changes to the job (`{}`: as it is). What is chosen
    by a `name` (a head, a backbone, the motion) is replaced whole; all else is merged."""
    modes: tuple[StudentMode, ...] = ("conventional", "decomposed")
    """Students trained in every cell; teacher, baseline and their fusion come with them."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (0,)
    """Every combination is run with each."""

    @field_validator("modes", "seeds")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            raise ValueError("there is none: at least one is needed")
        for place, value in enumerate(values):
            if value in values[:place]:
                raise ValueError(f"{value} stands twice: a table would count it as two")
        return values


class Cell(NamedTuple):
    """One combination with one seed: its jobs differ in their student alone, and share teacher and baseline."""

    choices: tuple[str, ...]
    """One of each axis, in the order of the axes."""
    seed: int
    jobs: dict[StudentMode, JobConfig]

    @property
    def name(self) -> str:
        """Of its run."""
        return ".".join((*self.choices, f"seed{self.seed}"))


def load_grid(path: str | Path, overrides: list[str] | None = None) -> tuple[GridConfig, list[Cell]]:
    """Read a grid's file and build the job of every cell.

    Raises:
        UserError: the grid or a cell's job does not hold (all such cells are named), a choice sets what the grid decides, or
            two combinations are the same job.
    """
    tree = read_yaml(path)
    for override in overrides or []:
        apply_override(tree, override, GridConfig)
    grid = build_settings(GridConfig, resolve(tree), str(path))
    if not grid.axes or not all(grid.axes.values()):
        raise UserError(f"{path}: axes: every axis needs at least one choice")
    changes = {f"axes.{axis}.{name}": tree for axis, choices in grid.axes.items() for name, tree in choices.items()}
    for where, changed in ({"settings": grid.settings} | changes).items():
        _check_not_owned(f"{path}: {where}", changed)
    job_path = Path(path).parent / grid.job
    base = resolve(read_yaml(job_path))
    if base.get("kind") != "distill":
        raise UserError(
            f"{path}: job: {job_path} is of kind {base.get('kind')}, and a grid's cells are of kind distill"
        )
    cells = _cells(grid, merged(base, grid.settings), str(path))
    _check_different(cells, str(path))
    return grid, cells


def _check_not_owned(where: str, changes: dict[str, Any]) -> None:
    for setting, remedy in OWNED.items():
        *groups, leaf = setting.split(".")
        node: Any = changes
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if isinstance(node, dict) and leaf in node:
            raise UserError(f"{where} sets {setting}, which the grid decides: {remedy}")


def _check_different(cells: Sequence[Cell], source: str) -> None:
    """Refuse two combinations that are one: their row would be trained twice, and look as if a choice made no difference."""
    seen: dict[str, str] = {}
    for cell in cells:
        jobs = {mode: job.model_dump(mode="json", exclude={"name"}) for mode, job in cell.jobs.items()}
        first = seen.setdefault(json.dumps(jobs, sort_keys=True), cell.name)
        if first != cell.name:
            raise UserError(
                f"{source}: {first} and {cell.name} are the same job: one's choice is what the job says anyway, or another "
                "axis sets the same again"
            )


def file_schema() -> dict[str, Any]:
    """JSON Schema of what `tadscale run` takes, a job, a grid of them or a retraining: for editors, every field with its
    documentation."""
    either = Annotated[JobConfig | GridConfig | RetrainConfig, Field(discriminator="kind")]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(either).json_schema()}


def is_grid(path: str | Path) -> bool:
    """Whether a file says that it is a grid's."""
    return read_yaml(path).get("kind") == "grid"


def _cells(grid: GridConfig, base: dict[str, Any], source: str) -> list[Cell]:
    cells, faults = [], []
    for choices in itertools.product(*grid.axes.values()):
        tree = base
        for axis, choice in zip(grid.axes.values(), choices, strict=True):
            tree = merged(tree, axis[choice])
        try:
            cells += [_cell(grid, tree, choices, seed, source) for seed in grid.seeds]
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))
    return cells


def _cell(grid: GridConfig, tree: dict[str, Any], choices: tuple[str, ...], seed: int, source: str) -> Cell:
    cell = Cell(choices, seed, {})
    folder, unregistered = join(grid.storage, grid.name), {"tracking": {"registered_model": None}, "gate": None}
    given = {"name": cell.name, "storage": folder, "seed": seed, "kind": "distill"} | unregistered
    for mode in grid.modes:
        job_tree = merged(tree, given | {"student": {"mode": mode}})
        cell.jobs[mode] = build_settings(JobConfig, job_tree, f"{source}: {cell.name} ({mode})")
    return cell
