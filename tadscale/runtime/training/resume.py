"""What an earlier part of a run has left under a stage's URL: whether it is this stage, and whether it is finished."""

from typing import Any

from pydantic import ValidationError

from tadscale.data.plan import Plan
from tadscale.data.storage import join
from tadscale.data.text_files import read_text
from tadscale.runtime.stage.spec import StageResult, StageSpec
from tadscale.runtime.training.checkpoints import CheckpointStore

RESULT_NAME = "result.json"
SPEC_NAME = "stage.json"
# Fields of a stage that may differ from one part of a run to the next: they do not decide what is learned.
FREE = (
    "run_url",
    "data_url",
    "teacher_url",
    "motion",  # its fingerprint decides, wherever weights or shards lie
    "checkpoint_every_steps",
    "keep_checkpoints",
    "quarantine",
    "accept_changes",
)


def check_stored(spec: StageSpec, plan: Plan) -> StageResult | None:
    """What is already under the stage's URL must belong to this very stage; if that is finished, its result.

    Raises:
        ValueError: it belongs to another, and `accept_changes` is not set; names what changed.
    """
    stored = read_text(join(spec.url, SPEC_NAME))
    if stored and not spec.accept_changes:
        _check_same(_read(stored, spec), spec)
    meta = CheckpointStore(spec.checkpoints_url).latest_meta()
    if meta is not None:
        check_plan(meta, plan, spec)
    finished = read_text(join(spec.url, RESULT_NAME))
    if not finished:
        return None
    result = StageResult.model_validate_json(finished)
    return result if result.plan_digest == plan.digest else None


def check_plan(meta: dict[str, Any], plan: Plan, spec: StageSpec) -> None:
    """Refuse to continue a checkpoint of another plan. Raises `ValueError`."""
    if meta["plan_digest"] != plan.digest and not spec.accept_changes:
        raise ValueError(
            f"{spec.url}: its checkpoint belongs to another plan ({meta['plan_digest'][:12]}..., now "
            f"{plan.digest[:12]}...): data, seed, windows, batch or epochs were changed, and windows would come twice or "
            "never. Give the run another name, or set accept_changes: true to go on all the same"
        )


def _read(stored: str, spec: StageSpec) -> StageSpec:
    try:
        return StageSpec.model_validate_json(stored)
    except ValidationError as error:
        raise ValueError(
            f"{join(spec.url, SPEC_NAME)} was written by another version of tadscale, with other settings: give the run "
            f"another name, or set accept_changes: true to go on from its checkpoints all the same ({error})"
        ) from error


def _check_same(stored: StageSpec, spec: StageSpec) -> None:
    before, now = stored.model_dump(exclude=set(FREE)), spec.model_dump(exclude=set(FREE))
    changed = [f"{name} ({before[name]} -> {now[name]})" for name in now if before[name] != now[name]]
    if changed:
        raise ValueError(
            f"{spec.url} holds a stage with other settings; changed: {'; '.join(changed)}. Give the run another name, or "
            "set accept_changes: true to go on from its checkpoints all the same"
        )
