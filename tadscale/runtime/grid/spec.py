"""What a grid is: a job file, axes of changes to it, modes of distillation, seeds."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, StringConstraints, TypeAdapter

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
OWNED = ("name", "storage", "seed", "kind")
"""Settings of a job that the grid itself decides."""


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
    modes: tuple[StudentMode, ...] = Field(default=("conventional", "decomposed"), min_length=1)
    """Students trained in every cell; teacher, baseline and their fusion come with them."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(default=(0,), min_length=1)
    """Every combination is run with each."""


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
        UserError: the grid or a cell's job does not hold; a cell is named.
    """
    tree = read_yaml(path)
    for override in overrides or []:
        apply_override(tree, override, GridConfig)
    grid = build_settings(GridConfig, resolve(tree), str(path))
    if not grid.axes or not all(grid.axes.values()):
        raise UserError(f"{path}: axes: every axis needs at least one choice")
    base = resolve(read_yaml(Path(path).parent / grid.job))
    return grid, list(_cells(grid, merged(base, grid.settings), str(path)))


def file_schema() -> dict[str, Any]:
    """JSON Schema of what `tadscale run` takes, a job, a grid of them or a retraining: for editors, every field with its
    documentation."""
    either = Annotated[JobConfig | GridConfig | RetrainConfig, Field(discriminator="kind")]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(either).json_schema()}


def is_grid(path: str | Path) -> bool:
    """Whether a file says that it is a grid's."""
    return read_yaml(path).get("kind") == "grid"


def _cells(grid: GridConfig, base: dict[str, Any], source: str) -> Iterator[Cell]:
    folder = join(grid.storage, grid.name)
    for choices in itertools.product(*grid.axes.values()):
        tree = base
        for axis, choice in zip(grid.axes.values(), choices, strict=True):
            tree = merged(tree, axis[choice])
        for seed in grid.seeds:
            cell = Cell(choices, seed, {})
            given = {"name": cell.name, "storage": folder, "seed": seed, "kind": "distill"}
            for mode in grid.modes:
                unregistered = {"tracking": {"registered_model": None}, "gate": None}
                job_tree = merged(tree, given | unregistered | {"student": {"mode": mode}})
                cell.jobs[mode] = build_settings(JobConfig, job_tree, f"{source}: {cell.name} ({mode})")
            yield cell
