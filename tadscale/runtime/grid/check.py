"""Whether a grid's jobs would run, before the first of them does; without what runs them."""

from collections.abc import Sequence

from tadscale.errors import UserError
from tadscale.runtime.grid.spec import Cell
from tadscale.runtime.jobs.preflight.checks import PreflightFailed, preflight


def check_cells(cells: Sequence[Cell]) -> None:
    """Look at every cell's jobs as far as needs no service, and report the faults of all.

    Raises:
        UserError: a job would not run to its end.
    """
    faults = {}
    for cell in cells:
        for mode, job in cell.jobs.items():
            try:
                preflight(job, services=False)
            except PreflightFailed as failed:
                faults[f"{cell.name} ({mode})"] = str(failed)
    if faults:
        raise UserError("\n".join(f"{where}: {says}" for where, says in faults.items()))
