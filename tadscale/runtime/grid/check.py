"""Whether a grid's jobs would run, before the first of them does."""

import json
from collections.abc import Sequence

from tadscale.errors import UserError
from tadscale.runtime.grid.spec import Cell
from tadscale.runtime.jobs.preflight.checks import PreflightFailed, preflight
from tadscale.runtime.stage.job import JobConfig


def check_cells(cells: Sequence[Cell], *, services: bool = False) -> None:
    """Look at every cell's jobs, and report the faults of all.

    Args:
        cells: of a grid.
        services: also ask storage, tracking store and cluster, and look at the data and the networks that are named, once
            for all seeds: weights that do not fit the last cell are missed before the first is trained.

    Raises:
        UserError: a job would not run to its end.
    """
    faults, asked = {}, set()
    for cell in cells:
        for mode, job in cell.jobs.items():
            but_for_its_seed = _but_for_its_seed(job)
            try:
                preflight(job, services=services and but_for_its_seed not in asked)
            except PreflightFailed as failed:
                faults[f"{cell.name} ({mode})"] = str(failed)
            asked.add(but_for_its_seed)
    if faults:
        raise UserError("\n".join(f"{where}: {says}" for where, says in faults.items()))


def _but_for_its_seed(job: JobConfig) -> str:
    return json.dumps(job.model_dump(mode="json", exclude={"name", "seed"}), sort_keys=True)
