"""Whether a grid's jobs would run, before the first of them does."""

import json
from collections.abc import Sequence

from tadscale.errors import UserError
from tadscale.runtime.grid.sharing import with_shared_teachers
from tadscale.runtime.grid.spec import Cell
from tadscale.runtime.jobs.begun import check_begun
from tadscale.runtime.jobs.preflight.checks import FINISHED_STAGES, PreflightFailed, preflight
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import planned_stages


def check_cells(cells: Sequence[Cell], *, services: bool = False) -> None:
    """Look at every cell's jobs, and report the faults of all.

    Args:
        cells: of a grid.
        services: also ask storage, tracking store and cluster, and look at the data and the networks that are named, once
            for all seeds: weights that do not fit the last cell are missed before the first is trained. So are stages that
            an earlier grid left in the place of others, with any seed.

    Raises:
        UserError: a job would not run to its end.
    """
    faults, asked = {}, set()
    for cell in cells:
        for mode, job in cell.jobs.items():
            but_for_its_seed = _but_for_its_seed(job)
            try:
                preflight(job, services=services and but_for_its_seed not in asked, but_for=[FINISHED_STAGES])
            except PreflightFailed as failed:
                faults[f"{cell.name} ({mode})"] = str(failed)
            asked.add(but_for_its_seed)
    if services and (fault := _other_stages(cells)):
        faults[FINISHED_STAGES] = fault
    if faults:
        raise UserError("\n".join(f"{where}: {says}" for where, says in faults.items()))


def _other_stages(cells: Sequence[Cell]) -> str:
    """Of all cells together, for a cell's students may rest on the teacher of another."""
    try:
        jobs = [job for cell in with_shared_teachers(cells) for job in cell.jobs.values()]
        check_begun(stage for job in jobs for stage in planned_stages(job))
    except (UserError, OSError) as error:
        return str(error)
    return ""


def _but_for_its_seed(job: JobConfig) -> str:
    return json.dumps(job.model_dump(mode="json", exclude={"name", "seed"}), sort_keys=True)
