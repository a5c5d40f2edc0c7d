"""What an earlier part of a run has left under a stage's URL: whether it is this stage, and whether it is finished."""

import json
from typing import Any, get_args

from tadscale.data.manifest import MANIFEST_NAME
from tadscale.data.plan import Plan
from tadscale.data.storage import join, list_names, read_text, write_bytes
from tadscale.errors import UserError
from tadscale.network import SPEC_NAME, Mode, read_spec
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.stage.spec import Stage, with_contents
from tadscale.runtime.training.checkpoints import CheckpointStore
from tadscale.runtime.training.stored_settings import changed_settings

RESULT_NAME = "result.json"
IDENTITY_NAME = "stage.json"
REMEDY = "Set that back, if it was not meant, or give the run another name; or remove what is to be trained anew"
"""What to do about a stage that is another, before the folders that do not fit together."""


def check_stored(stage: Stage, plan: Plan) -> StageResult | None:
    """What is already under the stage's URL must belong to this very stage; if that is finished, its result.

    Raises:
        UserError: it belongs to another, and what changed; the trained network is not the one that the stage left; or an
            epoch is to be chosen, and the weights of some were not kept.
    """
    _refuse(difference(stage, plan))
    return finished_with(stage, plan)


def difference(stage: Stage, plan: Plan | None) -> str:
    """How what lies under a stage's URL is another; empty where it is this very stage, or nothing lies there.

    Args:
        stage: of what it rests on that counts which was read.
        plan: None where it is not known yet.
    """
    identity = read_text(join(stage.url, IDENTITY_NAME))
    changed = changed_settings(json.loads(identity), stage) if identity else []
    if changed:
        return f"{stage.url} holds a stage with other settings; changed: {'; '.join(changed)}"
    meta = CheckpointStore(stage.checkpoints_url).latest_meta() if plan else None
    if plan is None or meta is None:
        return ""
    return _other_plan(meta, plan, stage) or _lost_epochs(stage, plan)


def check_plan(meta: dict[str, Any], plan: Plan, stage: Stage) -> None:
    """Refuse to continue a checkpoint of another plan. Raises `UserError`."""
    _refuse(_other_plan(meta, plan, stage))


def _refuse(says: str) -> None:
    if says:
        raise UserError(f"{says}. {REMEDY}: that folder, and those of stages that rest on it")


def _other_plan(meta: dict[str, Any], plan: Plan, stage: Stage) -> str:
    """That a checkpoint is of another plan."""
    if meta["plan_digest"] == plan.digest:
        return ""
    return (
        f"{stage.url}: its checkpoint belongs to another plan ({meta['plan_digest'][:12]}..., now {plan.digest[:12]}...): "
        "data, seed, windows, batch or epochs were changed, and windows would come twice or never"
    )


def _lost_epochs(stage: Stage, plan: Plan) -> str:
    """That an epoch is to be chosen among some that are over, and were not kept."""
    taken = max(CheckpointStore(stage.checkpoints_url).steps())
    over = (epoch for epoch in stage.kept_epochs if epoch * plan.steps_per_epoch <= taken)
    lost = [epoch for epoch in over if SPEC_NAME not in list_names(stage.epoch_url(epoch))]
    if not lost:
        return ""
    return (
        f"{stage.url}: evaluate.select=validation chooses among epochs of which {lost} are over, and their weights were not "
        "kept: the stage was begun with evaluate.select=last or other evaluate.candidates"
    )


def note_identity(stage: Stage) -> None:
    """Lay beside the stage what decides its result."""
    write_bytes(join(stage.url, IDENTITY_NAME), json.dumps(stage.identity, indent=1).encode())


def note_result(stage: Stage, result: StageResult) -> None:
    """Mark the stage as finished."""
    write_bytes(join(stage.url, RESULT_NAME), result.model_dump_json(indent=1, exclude={"url"}).encode())


def finished_stages(run_url: str) -> dict[str, StageResult]:
    """The stages that a run has finished, by mode.

    Raises:
        UserError: there is none, or a trained network is not the one that its stage left.
    """
    found = {mode: finished_stage(join(run_url, mode)) for mode in get_args(Mode)}
    stages = {mode: result for mode, result in found.items() if result}
    if not stages:
        raise UserError(f"{run_url}: no finished stage to evaluate; run the job that trains them first, by that name")
    return stages


def finished_stage(url: str) -> StageResult | None:
    """The stage in a folder, if one is finished there.

    Raises:
        UserError: its trained network is not the one that it left.
    """
    text = read_text(join(url, RESULT_NAME))
    return _read_result(text, url) if text else None


def finished_with(stage: Stage, plan: Plan) -> StageResult | None:
    """The stage in its folder, if one is finished there that was trained by this plan. Raises as `finished_stage`."""
    finished = finished_stage(stage.url)
    return finished if finished and finished.plan_digest == plan.digest else None


def finished_as_set(stage: Stage) -> StageResult | None:
    """The result in its folder, where that holds this very stage, with its settings, data and what it rests on as they are
    now, finished.

    Raises:
        StorageError: the storage cannot be reached.
    """
    drawn = all(MANIFEST_NAME in list_names(source.url) for source in stage.plan.sources)
    if not drawn or RESULT_NAME not in list_names(stage.url):
        return None
    try:
        return check_stored(with_contents(stage), open_plan(stage.plan)[1])
    except UserError:  # other settings, damaged, or what it rests on is gone
        return None


def is_begun(url: str) -> bool:
    """Whether a folder holds a stage, finished or not."""
    return bool(read_text(join(url, IDENTITY_NAME)))


def _read_result(text: str, url: str) -> StageResult:
    """A finished stage as it lies now: earlier versions wrote where it lay then."""
    facts = {name: value for name, value in json.loads(text).items() if not name.endswith("_url")}
    result = StageResult.model_validate(facts | {"url": url})
    read_spec(result.weights_url, result.network_sha256)
    return result
