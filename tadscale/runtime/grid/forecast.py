"""How long a grid will take: a window is timed once for each combination of choices, and what cells share counts once."""

import itertools
from collections.abc import Collection, Sequence
from typing import NamedTuple

from rich.table import Table

from tadscale.network import Mode
from tadscale.report.live_line import format_duration
from tadscale.runtime.grid.sharing import EqualStages, with_shared_teachers
from tadscale.runtime.grid.spec import Cell
from tadscale.runtime.jobs.named_models import named_appearance_teacher
from tadscale.runtime.jobs.preflight.cluster import offered
from tadscale.runtime.planning.forecast import StageForecast, forecast
from tadscale.runtime.planning.rates import EpochWindows, Rates, measure_rates
from tadscale.runtime.stage.spec import planned_stages
from tadscale.runtime.training.resume import finished_as_set


class RowForecast(NamedTuple):
    """What to expect of one combination of choices, with all its seeds."""

    choices: tuple[str, ...]
    """One of each axis."""
    networks: int
    """To train; one that an earlier combination trains is none of them."""
    finished: int
    """Networks that need not be trained again."""
    seconds: float
    """Of their training, one after the other."""


def forecast_grid(cells: Sequence[Cell], cpus: int) -> list[RowForecast]:
    """Every combination of a grid, in its order, without what is finished. What rests on a registered model counts as if it
    were not.

    Args:
        cells: all of them.
        cpus: cores of the cluster.

    Raises:
        UserError, StorageError: see `measure_rates`.
    """
    cells = with_shared_teachers(cells)
    equal = list(EqualStages.of_cells(cells))
    finished = {first.url for first, *others in equal if any(finished_as_set(stage) for stage in (first, *others))}
    trained = {first.url for first, *_ in equal} - finished
    rows = []
    for choices in dict.fromkeys(cell.choices for cell in cells):
        of_choices = [cell for cell in cells if cell.choices == choices]
        modes = [_modes(cell, trained) for cell in of_choices]
        stages: list[StageForecast] = []
        if any(modes):
            rates, windows = _measured(of_choices[0], list(dict.fromkeys(itertools.chain(*modes))))
            for cell, own in zip(of_choices, modes, strict=True):
                stages += _stages(cell, own, rates, windows, cpus)
        done = sum(len(_modes(cell, finished)) for cell in of_choices)
        rows.append(RowForecast(choices, len(stages), done, sum(stage.seconds for stage in stages)))
    return rows


def _modes(cell: Cell, places: Collection[str]) -> list[Mode]:
    """The stages of a cell that lie at these places; its jobs share all but their students."""
    stages = itertools.chain(*map(planned_stages, cell.jobs.values()))
    return list(dict.fromkeys(stage.mode for stage in stages if stage.url in places))


def _measured(cell: Cell, modes: Sequence[Mode]) -> tuple[Rates, EpochWindows]:
    job = next(iter(cell.jobs.values()))
    return measure_rates(job, modes, named_appearance_teacher(job))


def _stages(cell: Cell, modes: Collection[Mode], rates: Rates, windows: EpochWindows, cpus: int) -> list[StageForecast]:
    stages: dict[str, StageForecast] = {}
    for job in cell.jobs.values():
        for stage in forecast(job, windows, rates, cpus, offered(job).nodes).stages:
            if stage.mode in modes:
                stages.setdefault(stage.mode, stage)
    return list(stages.values())


def forecast_table(axes: Sequence[str], rows: Sequence[RowForecast]) -> Table:
    """A row a combination, and all of them."""
    table = Table(title="expected, not run", title_justify="left", show_footer=True)
    for place, axis in enumerate(axes):
        table.add_column(axis, footer="" if place else "all", no_wrap=True)
    table.add_column("networks", footer=str(sum(row.networks for row in rows)), justify="right")
    table.add_column("finished", footer=str(sum(row.finished for row in rows)), justify="right")
    table.add_column("training", footer=format_duration(sum(row.seconds for row in rows)), justify="right")
    for row in rows:
        table.add_row(*row.choices, str(row.networks), str(row.finished), format_duration(row.seconds))
    return table
