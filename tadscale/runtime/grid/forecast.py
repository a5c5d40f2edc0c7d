"""How long a grid will take: a window is timed once for each combination of choices, and what cells share counts once."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from tadscale.report.live_line import format_duration
from tadscale.runtime.grid.sharing import with_shared_teachers
from tadscale.runtime.grid.spec import Cell
from tadscale.runtime.jobs.named_models import named_appearance_teacher
from tadscale.runtime.jobs.preflight.cluster import offered
from tadscale.runtime.planning.forecast import StageForecast, forecast
from tadscale.runtime.planning.rates import EpochWindows, Rates, measure_rates
from tadscale.runtime.stage.spec import stage_modes


class RowForecast(NamedTuple):
    """What to expect of one combination of choices, with all its seeds."""

    choices: tuple[str, ...]
    """One of each axis."""
    networks: int
    """To train; a teacher that another combination trains is none of them."""
    seconds: float
    """Of their training, one after the other."""


def forecast_grid(cells: Sequence[Cell], cpus: int) -> list[RowForecast]:
    """Every combination of a grid, in its order, as if nothing of it had been run yet.

    Args:
        cells: all of them.
        cpus: cores of the cluster.

    Raises:
        UserError, StorageError: see `measure_rates`.
    """
    cells = with_shared_teachers(cells)
    rows = []
    for choices in dict.fromkeys(cell.choices for cell in cells):
        of_choices = [cell for cell in cells if cell.choices == choices]
        rates, windows = _measured(of_choices)
        stages = [stage for cell in of_choices for stage in _stages(cell, rates, windows, cpus)]
        rows.append(RowForecast(choices, len(stages), sum(stage.seconds for stage in stages)))
    return rows


def _measured(cells: Sequence[Cell]) -> tuple[Rates, EpochWindows]:
    jobs = [job for cell in cells for job in cell.jobs.values()]
    modes = dict.fromkeys(mode for job in jobs for mode in stage_modes(job))
    return measure_rates(jobs[0], list(modes), named_appearance_teacher(jobs[0]))


def _stages(cell: Cell, rates: Rates, windows: EpochWindows, cpus: int) -> list[StageForecast]:
    """What a cell trains: its jobs share all but their students."""
    trained: dict[str, StageForecast] = {}
    for job in cell.jobs.values():
        for stage in forecast(job, windows, rates, cpus, offered(job).nodes).stages:
            trained.setdefault(stage.mode, stage)
    return list(trained.values())


def forecast_table(axes: Sequence[str], rows: Sequence[RowForecast]) -> Table:
    """A row a combination, and all of them."""
    table = Table(title="expected, not run", title_justify="left", show_footer=True)
    for place, axis in enumerate(axes):
        table.add_column(axis, footer="" if place else "all", no_wrap=True)
    table.add_column("networks", footer=str(sum(row.networks for row in rows)), justify="right")
    table.add_column("training", footer=format_duration(sum(row.seconds for row in rows)), justify="right")
    for row in rows:
        table.add_row(*row.choices, str(row.networks), format_duration(row.seconds))
    return table
