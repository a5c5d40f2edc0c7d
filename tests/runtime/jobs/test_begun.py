"""A job under the name of another is refused before anything is started."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tadscale.data.manifest import read_manifest, write_manifest
from tadscale.engine.engine import TrainState
from tadscale.engine.state import GROUPS
from tadscale.errors import UserError
from tadscale.runtime.jobs.begun import check_begun
from tadscale.runtime.jobs.preflight.checks import preflight
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import Stage, planned_stages, stage_of, with_contents
from tadscale.runtime.training.checkpoints import CheckpointStore
from tadscale.runtime.training.resume import note_identity
from tests.runtime.conftest import finish
from tests.runtime.jobs.preflight.conftest import job, stored  # noqa: F401


def look_at(planned: JobConfig) -> None:
    check_begun(planned_stages(planned))


def begin(stage: Stage) -> None:
    """As if its first step had been taken."""
    note_identity(stage)
    _, plan = open_plan(stage.plan)
    tensors = {f"{group}/a": torch.zeros(1) for group in GROUPS}
    CheckpointStore(stage.checkpoints_url).save(TrainState(step=1, tensors=tensors), {"plan_digest": plan.digest})


def test_other_settings_and_other_videos_are_refused(job, stored):  # noqa: F811
    own = {"data__sprites": None, "data__url": stored()}
    look_at(job(**own))
    begin(stage_of(job(**own), "teacher"))
    look_at(job(**own))
    with pytest.raises(UserError, match=r"changed: optim.lr"):
        look_at(job(**own, optim__lr=5e-3))
    manifest = read_manifest(own["data__url"])
    gone = next(row for row in manifest.rows if row.subset == "train")
    write_manifest(replace(manifest, rows=tuple(row for row in manifest.rows if row != gone)))
    open_plan.cache_clear()  # another process looks anew
    with pytest.raises(UserError, match="another plan"):
        look_at(job(**own))


@pytest.fixture
def finished(job, stored) -> dict[str, Any]:  # noqa: F811
    """Changes that make a job whose stages are all finished."""
    own = {"data__sprites": None, "data__url": stored()}
    for stage in planned_stages(job(**own)):
        finish(with_contents(stage))
    assert preflight(job(**own)) == []
    return own


def test_a_later_stage_is_looked_at_where_those_before_it_are_finished(job, finished):  # noqa: F811
    with pytest.raises(UserError, match=r"decomposed.*changed: student.distill.share"):
        look_at(job(**finished, student__distill__share=3.0))


def test_so_is_one_behind_a_stage_that_is_to_be_trained_anew_but_for_what_that_decides(job, finished):  # noqa: F811
    run = Path(job().run_url)
    shutil.rmtree(run / "teacher")
    [doubt] = preflight(job(**finished))
    assert doubt.startswith(f"{run}/decomposed was trained on a network that is to be trained anew")
    with pytest.raises(UserError) as refused:
        look_at(job(**finished, model__head__levels=3))
    said = str(refused.value)
    for mode in ("baseline", "decomposed"):
        assert f"{run}/{mode} holds a stage with other settings; changed: model.head.levels" in said
    assert said.endswith(f"remove what is to be trained anew: {run}/baseline, {run}/decomposed")
    assert "changed: teacher" not in said and "; teacher" not in said
    for mode in ("baseline", "decomposed"):
        shutil.rmtree(run / mode)
    look_at(job(**finished, model__head__levels=3))


def test_what_rests_on_a_stage_that_does_not_fit_is_named_with_it(job, finished):  # noqa: F811
    run = Path(job().run_url)
    with pytest.raises(UserError, match=r"teacher holds a stage.*changed: optim.lr") as refused:
        look_at(job(**finished, teacher__lr=5e-3))
    named = f"trained anew: {run}/teacher, {run}/decomposed (which rests on what does not fit)"
    assert str(refused.value).endswith(named)


def test_a_teacher_that_is_named_and_not_there_hides_no_other_fault(job, finished, tmp_path):  # noqa: F811
    elsewhere = {"teacher__url": str(tmp_path / "none"), "student__distill__share": 3.0}
    with pytest.raises(UserError, match=r"decomposed holds.*changed: student.distill.share \(1.0 -> 3.0\). Set"):
        look_at(job(**finished, **elsewhere))


def test_a_damaged_network_hides_no_other_fault(job, finished):  # noqa: F811
    described = Path(job().run_url, "teacher", "weights", "network.json")
    described.write_text(described.read_text() + "\n")
    with pytest.raises(UserError, match=r"teacher.*damaged or replaced since.*changed: student.distill.share \("):
        look_at(job(**finished, student__distill__share=3.0))


def test_a_network_that_changed_code_makes_otherwise_is_found_under_the_same_settings(job, finished):  # noqa: F811
    path = Path(job().run_url, "baseline", "weights", "weights.safetensors")
    tensors = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save(tensors | {"head.dropped.weight": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"baseline was trained by other code.*\(head.dropped.weight is unknown\)"):
        look_at(job(**finished))


def test_built_in_videos_that_are_to_be_drawn_again_are_no_fault(job):  # noqa: F811
    note_identity(stage_of(job(), "teacher"))
    look_at(job())
    with pytest.raises(UserError, match="changed: seed"):
        look_at(job(seed=1))


def test_a_job_whose_first_stage_waits_for_another_network_is_looked_at_later(job):  # noqa: F811
    look_at(job(teacher__url="models:/teacher@champion", baseline=False))
    look_at(job(kind="evaluate"))
