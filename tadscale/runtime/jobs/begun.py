"""What lies under a job's name from an earlier start: refused or left out, before a cluster is started for it."""

from collections.abc import Collection, Iterable

from tadscale.data.manifest import MANIFEST_NAME
from tadscale.data.storage import list_names
from tadscale.errors import UserError
from tadscale.network import Mode, misfit
from tadscale.runtime.jobs.named_models import opened_models
from tadscale.runtime.models.open_model import MODELS
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import Stage, planned_stages, with_contents
from tadscale.runtime.training.resume import IDENTITY_NAME, REMEDY, difference, finished_as_set, finished_with


def check_begun(stages: Iterable[Stage]) -> list[str]:
    """Refuse stages in whose places others lie, after all of them have been looked at.

    What rests on a network that is still to be trained or fetched is compared but for what that network decides.

    Args:
        stages: as they are planned, each after those that it rests on.

    Returns:
        What may be refused later: stages that rest on one which is to be trained anew.

    Raises:
        UserError: a stage that lies there has other settings or another plan, or was damaged; names all that do not fit.
        StorageError: the storage cannot be reached.
    """
    faults: list[str] = []
    doubts: list[str] = []
    unfit: dict[str, str] = {}  # folders that do not fit together, by the weights in them
    awaited: set[str] = set()  # weights that will be others than lie there now
    for stage in {stage.url: stage for stage in stages}.values():
        fault, finished = _look_at(stage, awaited)
        if fault:
            faults.append(fault)
            unfit[stage.weights_url] = stage.url
        elif stage.rests_on & unfit.keys() and _is_begun(stage):
            unfit[stage.weights_url] = f"{stage.url} (which rests on what does not fit)"
        elif stage.rests_on & awaited and _is_begun(stage):
            doubts.append(
                f"{stage.url} was trained on a network that is to be trained anew: if that becomes another, the stage is "
                "refused then; remove its folder as well, to train it on the new one"
            )
        if not finished:
            awaited.add(stage.weights_url)
    if faults:
        raise UserError(f"{'. '.join(faults)}. {REMEDY}: {', '.join(unfit.values())}")
    return doubts


def finished_modes(job: JobConfig) -> list[Mode]:
    """The stages that a job has finished as it is set now, in order: they are not trained again.

    Raises:
        ValueError: a registered model that it names is not there, or damaged.
        StorageError: the storage cannot be reached.
    """
    with opened_models(job) as here:
        return [stage.mode for stage in planned_stages(here) if finished_as_set(stage)]


def _look_at(stage: Stage, awaited: Collection[str]) -> tuple[str, bool]:
    """What is wrong with a stage that lies there, and whether it is there, right and finished."""
    if not _is_begun(stage):
        return "", False
    known = _as_far_as_known(stage, awaited)
    drawn = all(MANIFEST_NAME in list_names(source.url) for source in stage.plan.sources)
    plan = open_plan(stage.plan)[1] if drawn else None  # None: built-in videos that are to be drawn again
    fault = difference(known, plan)
    if fault or plan is None:
        return fault, False
    try:
        finished = finished_with(stage, plan) is not None
        other = misfit(stage.weights_url) if finished else ""
    except UserError as damage:
        return str(damage), False
    if other:
        return f"{stage.url} was trained by other code, which made another network of these settings ({other})", False
    return "", finished


def _is_begun(stage: Stage) -> bool:
    return IDENTITY_NAME in list_names(stage.url)


def _as_far_as_known(stage: Stage, awaited: Collection[str]) -> Stage:
    """A registered network is fetched first; of one that is named and cannot be read other checks tell."""
    try:
        return with_contents(stage, {*awaited, *(url for url in stage.rests_on if url.startswith(MODELS))})
    except UserError:
        return with_contents(stage, stage.rests_on)
