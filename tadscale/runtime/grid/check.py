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
        services: also ask storage, tracking store and cluster, once for all jobs that want the same of them: weights that
            the last cell starts from are missed before the first is trained.

    Raises:
        UserError: a job would not run to its end.
    """
    faults, asked = {}, set()
    for cell in cells:
        for mode, job in cell.jobs.items():
            places = _places(job)
            try:
                preflight(job, services=services and places not in asked)
            except PreflightFailed as failed:
                faults[f"{cell.name} ({mode})"] = str(failed)
            asked.add(places)
    if faults:
        raise UserError("\n".join(f"{where}: {says}" for where, says in faults.items()))


def _places(job: JobConfig) -> str:
    """Everything outside that a job reads."""
    wanted = job.model_dump(mode="json", include={"data": True, "teacher": True, "motion": True, "tracking": True})
    student = job.student.appearance_teacher
    return json.dumps([wanted, job.model.backbone.weights, student and student.url], sort_keys=True)
