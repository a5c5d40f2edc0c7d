"""A job under the name of another is refused before anything is started."""

import shutil
from dataclasses import replace

import pytest
import torch

from tadscale.data.manifest import read_manifest, write_manifest
from tadscale.engine.engine import TrainState
from tadscale.engine.state import GROUPS
from tadscale.errors import UserError
from tadscale.runtime.jobs.begun import check_begun
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import Stage, planned_stages, stage_of, with_contents
from tadscale.runtime.training.checkpoints import CheckpointStore
from tadscale.runtime.training.resume import note_identity
from tests.runtime.conftest import finish
from tests.runtime.jobs.preflight.conftest import job, stored  # noqa: F401


def begin(stage: Stage) -> None:
    """As if its first step had been taken."""
    note_identity(stage)
    _, plan = open_plan(stage.plan)
    tensors = {f"{group}/a": torch.zeros(1) for group in GROUPS}
    CheckpointStore(stage.checkpoints_url).save(TrainState(step=1, tensors=tensors), {"plan_digest": plan.digest})


def test_other_settings_and_other_videos_are_refused(job, stored):  # noqa: F811
    own = {"data__sprites": None, "data__url": stored()}
    check_begun(job(**own))
    begin(stage_of(job(**own), "teacher"))
    check_begun(job(**own))
    with pytest.raises(UserError, match=r"changed: optim.lr"):
        check_begun(job(**own, optim__lr=5e-3))
    manifest = read_manifest(own["data__url"])
    gone = next(row for row in manifest.rows if row.subset == "train")
    write_manifest(replace(manifest, rows=tuple(row for row in manifest.rows if row != gone)))
    open_plan.cache_clear()  # another process looks anew
    with pytest.raises(UserError, match="another plan"):
        check_begun(job(**own))


def test_a_later_stage_is_looked_at_where_those_before_it_are_finished(job, stored):  # noqa: F811
    own = {"data__sprites": None, "data__url": stored()}
    for stage in planned_stages(job(**own)):
        finish(with_contents(stage))
    check_begun(job(**own))
    with pytest.raises(UserError, match=r"decomposed.*changed: student.distill.share"):
        check_begun(job(**own, student__distill__share=3.0))
    shutil.rmtree(stage_of(job(**own), "teacher").url)  # to be trained anew, and with it all that rests on it
    check_begun(job(**own, student__distill__share=3.0))


def test_built_in_videos_that_are_to_be_drawn_again_are_no_fault(job):  # noqa: F811
    note_identity(stage_of(job(), "teacher"))
    check_begun(job())
    with pytest.raises(UserError, match="changed: seed"):
        check_begun(job(seed=1))


def test_a_job_whose_first_stage_waits_for_another_network_is_looked_at_later(job):  # noqa: F811
    check_begun(job(teacher__url="models:/teacher@champion", baseline=False))
    check_begun(job(kind="evaluate"))
