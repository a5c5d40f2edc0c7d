"""What a grid's cells have in common, and is trained once: teachers."""

from collections.abc import Sequence

from tadscale.data.storage import list_names
from tadscale.network import SPEC_NAME
from tadscale.runtime.grid.spec import Cell
from tadscale.runtime.stage.job import TeacherConfig
from tadscale.runtime.stage.spec import stage_of


def with_shared_teachers(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, each of whose jobs names the teacher that another cell trains, where its own would be the same.

    That is one which is finished already, so that a choice may be put before others later; else the first cell's.

    Raises:
        UserError, StorageError: see `stage_of`; or the storage cannot be reached.
    """
    own = {cell.name: _own_teacher(cell) for cell in cells}
    trained: dict[str, list[str]] = {}
    for what, url in filter(None, own.values()):
        trained.setdefault(what, []).append(url)
    shared = {what: next(filter(_is_finished, urls), urls[0]) for what, urls in trained.items() if len(urls) > 1}

    def with_shared(cell: Cell) -> Cell:
        what, url = own[cell.name] or ("", "")
        if shared.get(what, url) == url:
            return cell
        named = {"teacher": TeacherConfig(url=shared[what])}
        return cell._replace(jobs={mode: job.model_copy(update=named) for mode, job in cell.jobs.items()})

    return [with_shared(cell) for cell in cells]


def _own_teacher(cell: Cell) -> tuple[str, str] | None:
    """All that decides the teacher that a cell's jobs have in common, and where it would lie; None where they name one."""
    job = next(iter(cell.jobs.values()))
    if job.teacher.url:
        return None
    stage = stage_of(job, "teacher")
    return f"{stage.identity} {stage.plan.model_dump_json()}", stage.weights_url


def _is_finished(weights_url: str) -> bool:
    return SPEC_NAME in list_names(weights_url)
