"""What a stage leaves behind is read where it lies, and is the network that it left."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from tadscale.engine.engine import TrainState
from tadscale.engine.pretrain import PretrainConfig
from tadscale.engine.state import GROUPS
from tadscale.engine.steps import DistillConfig, StudentConfig
from tadscale.models.backbones.tsm_resnet import TsmResNet18Config
from tadscale.models.heads.gtad.network import GTADConfig
from tadscale.models.heads.tadtr.network import TadTRConfig
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import Stage, stage_of
from tadscale.runtime.training.checkpoints import CheckpointStore
from tadscale.runtime.training.resume import (
    check_stored,
    difference,
    finished_as_set,
    finished_stages,
    note_identity,
)
from tests.runtime.conftest import changed, finish, save_untrained


@pytest.fixture
def run(make_stage, tmp_path) -> Path:
    """A run whose teacher and student are finished, in its old place."""
    folder = tmp_path / "old place" / "run"
    teacher = make_stage(folder, "teacher")
    finish(teacher)
    finish(stage_of(teacher.job, "decomposed", teacher.weights_url))
    return folder


def test_a_run_that_was_moved_is_read_where_it_lies(run, tmp_path):
    before = finished_stages(str(run))
    moved = tmp_path / "new"
    shutil.move(run, moved)
    after = finished_stages(str(moved))
    assert after.keys() == before.keys() == {"teacher", "decomposed"}
    for mode, result in after.items():
        assert result.weights_url == f"{moved}/{mode}/weights"
        assert result.log_url == f"{moved}/{mode}/log.jsonl"
        assert result == before[mode].model_copy(update={"url": f"{moved}/{mode}"})


def test_no_file_of_a_run_says_where_it_lies(run):
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {"stage.json", "result.json", "network.json"} <= {path.name for path in files}
    for path in files:
        assert str(run.parent).encode() not in path.read_bytes(), path


def test_a_result_of_an_earlier_version_is_read(run, tmp_path):
    path = run / "teacher" / "result.json"
    document = json.loads(path.read_text())
    del document["network_sha256"]
    gone = {name: f"/gone/teacher/{name}" for name in ("weights_url", "log_url", "quarantine_url")}
    path.write_text(json.dumps(document | gone))
    assert finished_stages(str(run))["teacher"].weights_url == f"{run}/teacher/weights"


def test_an_epoch_is_not_chosen_among_some_that_were_not_kept(make_stage, tmp_path):
    """A stage that was begun with evaluate.select=last does not go on as one that chooses; both may begin anew."""
    begun = make_stage(tmp_path / "run")
    selecting = changed(begun, evaluate=begun.job.evaluate.model_copy(update={"select": "validation"}))
    _, plan = open_plan(begun.plan)
    check_stored(selecting, plan)
    store = CheckpointStore(begun.checkpoints_url)
    meta = {"plan_digest": plan.digest}
    tensors = {f"{group}/a": torch.zeros(1) for group in GROUPS}
    store.save(TrainState(step=plan.steps_per_epoch - 1, tensors=tensors), meta)
    check_stored(selecting, plan)  # its first epoch is not over
    store.save(TrainState(step=plan.steps_per_epoch + 1, tensors=tensors), meta)
    check_stored(begun, plan)
    with pytest.raises(ValueError, match=r"epochs of which \[1\] are over, and their weights were not kept"):
        check_stored(selecting, plan)
    save_untrained(begun, Path(begun.epoch_url(1)), seed=1)
    check_stored(selecting, plan)


def test_another_network_than_the_stage_left_is_refused(run):
    """Damage in `network.json` changes what is detected and fits the weights as well."""
    path = run / "decomposed" / "weights" / "network.json"
    path.write_text(path.read_text().replace('"fps": 5.0', '"fps": 6.0'))
    with pytest.raises(ValueError, match=r"network.json has digest .* damaged or replaced since"):
        finished_stages(str(run))


def test_what_has_changed_is_said_setting_by_setting(make_stage, tmp_path):
    """Of a stage that a version with fewer settings began, too: those alone are named, not the tree around them."""
    stage = make_stage(tmp_path / "run")
    note_identity(stage)
    path = Path(stage.url) / "stage.json"
    document = json.loads(path.read_text())
    levels = document["model"]["head"].pop("levels")
    assert document["model"]["backbone"].pop("weights") is None  # not set: as if it were not there
    document["seed"] += 1
    path.write_text(json.dumps(document))
    _, plan = open_plan(stage.plan)
    said = re.escape(f"changed: seed (1 -> 0); model.head.levels (not there -> {levels}). Set that back")
    with pytest.raises(ValueError, match=said):
        check_stored(stage, plan)


def test_a_stage_of_an_earlier_version_goes_on_where_the_new_settings_are_as_by_default(make_stage, tmp_path):
    stage = make_stage(tmp_path / "run", "decomposed", None)
    note_identity(stage)
    path = Path(stage.url) / "stage.json"
    document = json.loads(path.read_text())
    _, plan = open_plan(stage.plan)
    for gone in (("model", "head", "reach"), ("optim", "backbone_lr_factor"), ("student", "distill", "share")):
        *folders, name = gone
        holder = document
        for folder in folders:
            holder = holder[folder]
        assert holder.pop(name) is not None
    path.write_text(json.dumps(document))
    check_stored(stage, plan)
    student = stage.job.student
    other = student.model_copy(update={"distill": student.distill.model_copy(update={"share": 3.0})})
    with pytest.raises(ValueError, match=r"changed: student.distill.share \(not there -> 3.0\)"):
        check_stored(changed(stage, student=other), plan)


def test_a_setting_whose_default_is_not_what_was_done_before_it_is_not_taken_up_in_mid_training(make_stage, tmp_path):
    stage = make_stage(tmp_path / "run", "decomposed", None).model_copy(update={"start_url": "start"})
    note_identity(stage)
    path = Path(stage.url) / "stage.json"
    document = json.loads(path.read_text())
    del document["student"]["distill"]["backbone_delay"]
    path.write_text(json.dumps(document))
    _, plan = open_plan(stage.plan)
    with pytest.raises(ValueError, match=r"changed: student.distill.backbone_delay \(0.0 -> 0.33\)"):
        check_stored(stage, plan)
    at_once = stage.job.model_copy(update={"student": StudentConfig(distill=DistillConfig(backbone_delay=0))})
    check_stored(stage.model_copy(update={"job": at_once}), plan)


@pytest.fixture
def plain_choice(make_stage, tmp_path) -> Stage:
    """A stage with a head and a backbone of which the job says the names alone."""
    stage = make_stage(tmp_path / "run", "baseline")
    choice = {"head": TadTRConfig(), "backbone": TsmResNet18Config()}
    stage = changed(stage, model=stage.job.model.model_copy(update=choice))
    note_identity(stage)
    return stage


def test_so_does_one_with_a_head_and_a_backbone_of_which_nothing_but_the_name_is_said(plain_choice):
    path = Path(plain_choice.url) / "stage.json"
    document = json.loads(path.read_text())
    assert document["model"]["head"].pop("tiou_weight")
    path.write_text(json.dumps(document))
    assert not difference(plain_choice, None)
    other = plain_choice.job.model.model_copy(update={"head": GTADConfig()})
    assert re.search(r"model\.head\.name", difference(changed(plain_choice, model=other), None))


def test_a_part_that_is_new_and_chosen_is_told_though_all_in_it_is_as_by_default(plain_choice):
    path = Path(plain_choice.url) / "stage.json"
    document = json.loads(path.read_text())
    del document["model"]["head"]
    path.write_text(json.dumps(document))
    assert re.search(r"changed: model.head.name \(not there -> tadtr\)", difference(plain_choice, None))


def test_a_part_that_was_switched_off_is_not_the_same_as_one_by_default(make_stage, tmp_path):
    stage = make_stage(tmp_path / "run", "decomposed", None)
    note_identity(stage)
    path = Path(stage.url) / "stage.json"
    document = json.loads(path.read_text())
    document["student"]["distill"] = None
    path.write_text(json.dumps(document))
    _, plan = open_plan(stage.plan)
    with pytest.raises(ValueError, match=r"student.distill.share \(not there -> 1.0\)"):
        check_stored(stage, plan)


def test_a_pretext_is_the_same_whatever_head_is_to_follow(make_stage, tmp_path):
    """It has none; earlier versions wrote the job's down all the same."""
    stage = make_stage(tmp_path / "run", "pretrain", pretrain=PretrainConfig())
    model = stage.job.model.model_copy(update={"head": stage.job.model.head.model_copy(update={"levels": 3})})
    assert changed(stage, model=model).identity == stage.identity
    narrower = model.backbone.model_copy(update={"width": 8})
    assert changed(stage, model=model.model_copy(update={"backbone": narrower})).identity != stage.identity
    note_identity(stage)
    path = Path(stage.url) / "stage.json"
    document = json.loads(path.read_text())
    document["model"] |= {"dim": 99, "head": {"name": "actionformer", "levels": 4}}
    path.write_text(json.dumps(document))
    assert not difference(stage, None)


def test_a_stage_does_not_go_on_in_another_precision(make_stage, tmp_path):
    stage = make_stage(tmp_path / "run")
    note_identity(stage)
    preset = tmp_path / "half.json"
    preset.write_text(json.dumps({"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}))
    halved = changed(stage, cluster=stage.job.cluster.model_copy(update={"deepspeed_preset": str(preset)}))
    assert re.search(r"changed: precision \(float32 -> bfloat16\)", difference(halved, None))
    path = Path(stage.url) / "stage.json"
    document = json.loads(path.read_text())
    del document["precision"]  # as earlier versions left it
    path.write_text(json.dumps(document))
    assert not difference(halved, None)


def test_a_stage_is_finished_if_it_is_this_one_and_its_data_are_these(make_stage, tmp_path):
    stage = make_stage(tmp_path / "run")
    assert not finished_as_set(stage)
    finish(stage)
    assert finished_as_set(stage)
    longer = stage.job.optim.model_copy(update={"epochs": 4})
    assert not finished_as_set(changed(stage, optim=longer))
    finish(stage, "of other videos")
    assert not finished_as_set(stage)
    assert not finished_as_set(changed(stage, data={"url": str(tmp_path / "not drawn yet")}))
