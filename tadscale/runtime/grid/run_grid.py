"""Run a grid: every cell's jobs one after the other, what is equal trained once, and a table at the end."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from tadscale.data.storage import join, write_bytes
from tadscale.report.grid import GridRow, csv_table, grid_table, markdown_table, plot_grid
from tadscale.runtime.cluster.stopping import StopToken
from tadscale.runtime.grid.check import check_cells
from tadscale.runtime.grid.results import grid_row, keep, kept_scores
from tadscale.runtime.grid.sharing import with_shared_teacher
from tadscale.runtime.grid.spec import Cell, GridConfig
from tadscale.runtime.jobs.run_job import run_job
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.tracking.run import PARENT_TAG, Run
from tadscale.runtime.tracking.track import CELL_TAG, resolve_tracking_uri, track_job


def run_grid(grid: GridConfig, cells: Sequence[Cell], console: Console, stop: StopToken) -> list[GridRow]:
    """Run what has not been run yet, and compare; the tables beside the runs hold what is known after every cell.

    Cells are nested runs of the grid's own. A teacher is trained once for all cells in which it would be the same.

    Raises:
        UserError: a cell's job would not run to its end; all cells are looked at before the first is trained.
        Preempted: it was told to stop; the same command goes on.
    """
    check_cells(cells)
    first = next(iter(cells[0].jobs.values()))
    folder = with_absolute_paths(first).storage
    settings = grid.model_dump(mode="json")
    with track_job(
        first.tracking, job=grid.name, storage=grid.storage, settings=settings, tags={"kind": "grid"}
    ) as run:
        uri = resolve_tracking_uri(first.tracking, grid.storage)
        teachers: dict[str, str] = {}
        scores: dict[str, dict[str, float]] = {}
        rows: dict[tuple[str, ...], GridRow] = {}
        for number, cell in enumerate(cells, 1):
            place = f"{number} of {len(cells)}: {cell.name}"
            console.print(f"cell       {place}", highlight=False)
            run.set_tags({CELL_TAG: place})
            scores[cell.name] = _run_cell(cell, folder, uri, teachers, run, console, stop)
            rows[cell.choices] = grid_row(scores, [one for one in cells[:number] if one.choices == cell.choices])
            _write_tables(grid, list(rows.values()), folder, run)
        _log_means(rows.values(), run)
    console.print(grid_table(tuple(grid.axes), list(rows.values()), f"{grid.name}: average mAP, %"))
    return list(rows.values())


def _run_cell(
    cell: Cell, folder: str, uri: str, teachers: dict[str, str], run: Run, console: Console, stop: StopToken
) -> dict[str, float]:
    """Average mAP by detector of a cell, run where it was not yet."""
    scores: dict[str, float] = {}
    for mode, job in cell.jobs.items():
        shared = with_shared_teacher(job, teachers)
        known = kept_scores(folder, cell, mode, shared)
        if known is None:
            tracked = shared.tracking.model_copy(update={"tracking_uri": uri})
            console.print(f"student    {cell.name}, {mode}", highlight=False)
            ran = run_job(shared.model_copy(update={"tracking": tracked}), console, stop, tags={PARENT_TAG: run.run_id})
            keep(folder, cell, mode, shared, ran.scores)
            known = {name: score.average for name, score in ran.scores.items()}
        scores |= known
    return scores


def _write_tables(grid: GridConfig, rows: Sequence[GridRow], folder: str, run: Run) -> None:
    """The table as Markdown, CSV and a picture, beside the runs and in the grid's record."""
    axes = tuple(grid.axes)
    files = {"table.md": markdown_table(axes, rows).encode(), "table.csv": csv_table(axes, rows).encode()}
    with tempfile.TemporaryDirectory() as scratch:
        plot_grid(rows, Path(scratch, "table.png"))
        files["table.png"] = Path(scratch, "table.png").read_bytes()
    for name, content in files.items():
        write_bytes(join(folder, name), content)
        run.log_bytes(content, name)


def _log_means(rows: Iterable[GridRow], run: Run) -> None:
    for row in rows:
        where = ".".join(row.choices)
        run.log_metrics({f"{where}/{name}": row.mean(name) for name in row.averages})
