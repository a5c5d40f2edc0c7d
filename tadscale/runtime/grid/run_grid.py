"""Run a grid: every cell's jobs one after the other, what is equal trained once, and a table."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from tadscale.data.storage import join, write_bytes
from tadscale.report.grid import GridRow, csv_table, grid_table, markdown_table, plot_grid
from tadscale.runtime.cluster.stopping import StopToken
from tadscale.runtime.grid.check import check_cells
from tadscale.runtime.grid.contents import Contents
from tadscale.runtime.grid.results import GridResults, forget_others, keep, kept_scores
from tadscale.runtime.grid.sharing import EqualStages, with_shared_teachers
from tadscale.runtime.grid.spec import Cell, GridConfig
from tadscale.runtime.jobs.lease import leased
from tadscale.runtime.jobs.run_job import run_job
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.tracking.run import PARENT_TAG, Run
from tadscale.runtime.tracking.track import CELL_TAG, resolve_tracking_uri, track_job


def run_grid(grid: GridConfig, cells: Sequence[Cell], console: Console, stop: StopToken) -> list[GridRow]:
    """Run what has not been run yet, and compare. The tables beside the runs hold what is known, from the first cell on.

    Cells are nested runs of the grid's own. What would be the same in several cells is trained in one of them.

    Raises:
        UserError: a cell's job would not run to its end; all cells are looked at before the first is trained.
        LeaseHeld: the grid runs already.
        Preempted: it was told to stop; the same command goes on.
    """
    check_cells(cells, services=True)
    cells = with_shared_teachers(cells)
    equal = EqualStages.of_cells(cells)
    first = next(iter(cells[0].jobs.values()))
    folder = with_absolute_paths(first).storage
    settings = grid.model_dump(mode="json")
    kind = {"kind": "grid"}
    with (
        leased(folder, stop),
        track_job(first.tracking, job=grid.name, storage=grid.storage, settings=settings, tags=kind) as run,
    ):
        uri = resolve_tracking_uri(first.tracking, grid.storage)
        results = GridResults(folder, cells)
        for number, cell in enumerate(cells, 1):
            if results.knows(cell):
                continue
            place = f"{number} of {len(cells)}: {cell.name}"
            console.print(f"cell       {place}", highlight=False)
            run.set_tags({CELL_TAG: place})
            _write_tables(grid, results, folder, run)
            _run_cell(cell, equal, folder, uri, run, console, stop)
            results.add(cell)
        _write_tables(grid, results, folder, run)
        _log_means(results.rows, run)
    console.print(grid_table(tuple(grid.axes), results.rows, f"{grid.name}: average mAP, %"))
    return results.rows


def _run_cell(
    cell: Cell, equal: EqualStages, folder: str, uri: str, run: Run, console: Console, stop: StopToken
) -> None:
    """Run those of a cell's jobs that were not yet, and keep what they come to."""
    forget_others(folder, cell)
    for mode, job in cell.jobs.items():
        if kept_scores(folder, cell, mode, Contents(folder)) is None:
            tracked = job.tracking.model_copy(update={"tracking_uri": uri})
            console.print(f"student    {cell.name}, {mode}", highlight=False)
            for stage, source in equal.adopt(job).items():
                console.print(f"{stage:<10} the same as {source}", highlight=False, markup=False, soft_wrap=True)
            ran = run_job(job.model_copy(update={"tracking": tracked}), console, stop, tags={PARENT_TAG: run.run_id})
            keep(folder, cell, mode, ran.scores)


def _write_tables(grid: GridConfig, results: GridResults, folder: str, run: Run) -> None:
    """The table as Markdown, CSV and a picture, beside the runs and in the grid's record, once there is a row."""
    axes, rows, name = tuple(grid.axes), results.rows, f"table-{results.subset}"
    if not rows:
        return
    files = {f"{name}.md": markdown_table(axes, rows).encode(), f"{name}.csv": csv_table(axes, rows).encode()}
    with tempfile.TemporaryDirectory() as scratch:
        plot_grid(rows, Path(scratch, "table.png"))
        files[f"{name}.png"] = Path(scratch, "table.png").read_bytes()
    for name, content in files.items():
        write_bytes(join(folder, name), content)
        run.log_bytes(content, name)


def _log_means(rows: Iterable[GridRow], run: Run) -> None:
    for row in rows:
        where = ".".join(row.choices)
        run.log_metrics({f"{where}/{name}": row.mean(name) for name in row.averages})
