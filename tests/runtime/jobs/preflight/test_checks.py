"""Everything that can be known before anything is spent is found then, and told at once."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tadscale.cli import main
from tadscale.data.manifest import MANIFEST_NAME, read_manifest, write_manifest
from tadscale.runtime.jobs.preflight.checks import CHECKS, PreflightFailed, preflight
from tadscale.runtime.stage.spec import stage_of
from tadscale.runtime.training.resume import note_identity
from tests.runtime.jobs.preflight.conftest import changed, sound

JOBS = Path(__file__).parents[4] / "jobs"

# What is wrong, and the words that say so. `tadscale validate` finds all of these, without looking at any storage.
IN_THE_FILE = {
    "tiou in percent": ({"evaluate.tiou": [50]}, "evaluate.tiou.0"),
    "no tiou": ({"evaluate.tiou": []}, "at least one threshold"),
    "negative seed": ({"seed": -1}, "seed"),
    "model name with a slash": ({"tracking.registered_model": "team/own"}, "tracking.registered_model"),
    "model name with a colon": ({"tracking.registered_model": "own:v2"}, "tracking.registered_model"),
    "blank model name": ({"tracking.registered_model": " "}, "tracking.registered_model"),
    "heads that do not divide": ({"model.head.heads": 3}, "3 attention heads cannot share 8 channels"),
    "an appearance teacher without a branch": (
        {"student": {"mode": "conventional", "appearance_teacher": {}}},
        "a conventional student has none",
    ),
    "an appearance teacher that is not trained": (
        {"student.appearance_teacher": {}, "baseline": False},
        "train the baseline",
    ),
    "no epochs": ({"optim.epochs": 0}, "optim.epochs"),
    "no batch": ({"optim.global_batch": 0}, "optim.global_batch"),
    "negative rate": ({"optim.lr": -1e-3}, "optim.lr"),
    "infinite rate": ({"optim.lr": float("inf")}, "optim.lr"),
    "average that never moves": ({"optim.ema_decay": 1.0}, "optim.ema_decay"),
    "warm-up of nan": ({"optim.warmup_epochs": float("nan")}, "optim.warmup_epochs"),
    "misspelt key": ({"data.test_subsets": "test"}, "did you mean `test_subset`?"),
    "misspelt backbone": ({"model.backbone": {"name": "smal3d"}}, "did you mean `small3d`?"),
    "odd width": ({"model.backbone.width": 6}, "model.backbone.width"),
    "min_score above all": ({"evaluate.inference": {"nms": {"min_score": 1.5}}}, "min_score"),
    "more least workers than workers": ({"cluster.min_workers": 2}, "min_workers = 2 is above workers = 1"),
    "one and a half GPUs": ({"cluster.gpus_per_worker": 1.5}, "gpus_per_worker = 1.5"),
    "empty storage": ({"storage": ""}, "storage"),
    "unknown scheme": ({"data.url": "gs://bucket/data"}, "cannot open gs://"),
    "credentials in a URL": ({"storage": "s3://user:pass@bucket/runs"}, "credentials do not belong"),
    "stride beyond the window": ({"data.window.stride_frames": 17}, "would never be seen"),
    "workers that do not divide": ({"cluster.workers": 3}, "optim.global_batch = 4"),
    "workers in between": ({"cluster": {"workers": 4, "min_workers": 2}}, "by 3 workers"),
    "pretext's batch": (
        {"pretrain": {"optim": {"global_batch": 3}}, "cluster.workers": 2},
        "pretrain.optim.global_batch = 3",
    ),
    "pretext's window": ({"pretrain": {"frames": 64}}, "pretrain.frames = 64"),
    "pictures too small to pool": ({"data.window.height": 2, "data.window.width": 2}, "windows of 16 frames of 2 x 2"),
    "pictures too small for flow": ({"motion": {"name": "dis"}, "data.window.height": 12}, "at least 32 pixels"),
    "no weights of RAFT": ({"motion": {"name": "raft", "raft": {"weights": "nowhere.pth"}}}, "no such file"),
    "no preset": ({"cluster.deepspeed_preset": "nowhere.json"}, "not readable JSON"),
    "misspelt subset": ({"data.test_subset": "tests"}, "did you mean `test`?"),
    "subset without videos": ({"data.train_subset": "validation"}, "data.train_subset"),
    "an epoch chosen on test": (
        {"evaluate.select": "validation", "data.validation_subset": "test"},
        "flatters its score there",
    ),
    "an epoch chosen on what is trained on": (
        {"evaluate.select": "validation", "data.validation_subset": "train"},
        "is trained on",
    ),
    "an epoch chosen on nothing": ({"evaluate.select": "validation"}, "data.validation_subset"),
    "videos in which nothing happens": ({"data.sprites.duration_s": 4}, "nothing would be learned"),
    "videos without a window": (
        {"data.sprites.duration_s": 4, "data.window.sampling": "segments", "data.window.background": 0},
        "have no window, such as 'train-00000'",
    ),
    "windows faster than the videos": ({"data.window.fps": 10}, "pictures would be shown twice"),
}


def job_file(folder: Path, changes: dict) -> str:
    path = folder / "job.yaml"
    path.write_text(json.dumps(changed(sound(folder), changes)).replace("Infinity", ".inf").replace("NaN", ".nan"))
    return str(path)


@pytest.mark.parametrize("fault", IN_THE_FILE)
def test_validate_finds_what_the_file_alone_tells(fault, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changes, words = IN_THE_FILE[fault]
    path = job_file(tmp_path, changes)
    assert main(["validate", path]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


@pytest.mark.parametrize("fault", ["negative seed", "stride beyond the window", "misspelt subset"])
def test_run_refuses_before_anything_is_started(fault, tmp_path, monkeypatch, capsys):
    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    import ray

    monkeypatch.setattr(ray, "init", started)
    monkeypatch.chdir(tmp_path)
    changes, words = IN_THE_FILE[fault]
    path = job_file(tmp_path, changes)
    assert main(["run", path]) == 1
    assert words in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["job.yaml"]  # no storage, no data, no database


def test_nothing_is_said_of_a_sound_job_and_nothing_is_left_behind(job, tmp_path):
    preflight(job())
    assert not list(tmp_path.iterdir())


def test_all_faults_are_told_at_once(job):
    with pytest.raises(PreflightFailed) as refusal:
        preflight(
            job(
                data__test_subset="tests",
                data__train_subset="training",
                data__window__stride_frames=20,
                cluster__workers=2,
                optim__global_batch=4,
                cluster__deepspeed_preset="nowhere.json",
                model__backbone__weights="gs://bucket/start",
                tracking__tracking_uri="http://127.0.0.1:9",
            )
        )
    found = {fault.check for fault in refusal.value.faults}
    assert found >= {"places", "DeepSpeed preset", "windows", "subsets", "tracking store"}
    assert all(fault.says in str(refusal.value) for fault in refusal.value.faults)
    assert len({fault.says for fault in refusal.value.faults}) == len(refusal.value.faults)
    assert pickle.loads(pickle.dumps(refusal.value)).faults == refusal.value.faults


def test_faults_of_types_are_told_at_once(tmp_path, capsys):
    path = job_file(tmp_path, {"seed": -1, "evaluate.tiou": [50], "tracking.registered_model": "team/own: v2"})
    assert main(["validate", path]) == 1
    said = capsys.readouterr().err
    assert all(place in said for place in ("seed:", "evaluate.tiou.0:", "tracking.registered_model:"))


@pytest.mark.parametrize(
    ("fault", "changes", "words"),
    [
        ("misspelt subset", {"data__test_subset": "tests"}, "did you mean `test`?"),
        ("no manifest", {"data__url": "nowhere"}, "does not exist"),
        ("tracking store down", {"tracking__tracking_uri": "http://127.0.0.1:9"}, "does not answer"),
        ("no such teacher", {"teacher__url": "nowhere"}, "nowhere"),
        ("no such appearance teacher", {"student__appearance_teacher": {"url": "nowhere"}}, "nowhere"),
        ("no such start", {"model__backbone__weights": "nowhere"}, "nowhere"),
        ("flow that is not there", {"motion": {"name": "precomputed", "flow_url": "nowhere"}}, "does not exist"),
        ("stale cluster", {"cluster__address": "127.0.0.1:9"}, "no Ray cluster answers at 127.0.0.1:9"),
        ("nothing trained yet", {"kind": "evaluate"}, "no finished stage"),
    ],
)
def test_what_services_tell_is_found_on_stored_videos(fault, changes, words, job, stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = stored()
    with pytest.raises(PreflightFailed, match="found before anything was started") as refusal:
        preflight(job(**{"data__sprites": None, "data__url": url, **changes}))
    assert words in str(refusal.value), fault


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"model__backbone__weights": "starts/own"},
            "start: model.backbone.weights: {here}/starts/own is no trained network, for it has no network.json: the "
            "copy is incomplete or the path is wrong; starts/own counts from {here}, where the command was started",
        ),
        (
            {"model__backbone__weights": "own.pth"},
            "start: model.backbone.weights: {here}/own.pth is no such file: the copy is incomplete or the path is wrong; "
            "own.pth counts from {here}, where the command was started",
        ),
        (
            {"model__backbone__weights": "mine"},
            "{here}/mine is no trained network, for it has no network.json: did you mean mine/baseline/weights or "
            "mine/decomposed/weights?",
        ),
        (
            {"teacher__url": "mine"},
            "teacher: teacher.url: {here}/mine is no trained network, for it has no network.json: did you mean "
            "mine/teacher/weights?",
        ),
        (
            {"student__appearance_teacher": {"url": "/none"}},
            "student.appearance_teacher.url: /none is no trained network, for it has no network.json: the copy is "
            "incomplete or the path is wrong\n",
        ),
    ],
)
def test_a_network_that_is_not_where_a_setting_says_is_told_by_the_setting(
    changes, says, job, stored, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for mode in ("teacher", "baseline", "decomposed"):
        Path("mine", mode, "weights").mkdir(parents=True)
        Path("mine", mode, "weights", "network.json").write_text("{}")
    with pytest.raises(PreflightFailed, match=": 1 fault") as refusal:
        preflight(job(**{"data__sprites": None, "data__url": stored(), **changes}))
    assert says.format(here=tmp_path) in f"{refusal.value}\n"


def test_stored_videos_without_a_fault_pass(job, stored):
    preflight(job(data__sprites=None, data__url=stored()))


def test_sources_replace_the_training_subset_under_data_url(job, stored):
    scored = stored("scored", subsets=("test",))
    changes = {"data__sprites": None, "data__url": scored, "data__train_subset": "nowhere"}
    preflight(job(**changes, data__sources=[{"url": stored("one", subsets=("train",))}]))
    with pytest.raises(PreflightFailed, match=r"data\.train_subset"):
        preflight(job(**changes))
    with pytest.raises(PreflightFailed, match="no video of subset 'trian'"):
        preflight(job(**changes, data__sources=[{"url": stored("two"), "subset": "trian"}]))


def test_training_videos_without_segments_are_an_error_not_a_loss_of_nothing(job, stored):
    with pytest.raises(PreflightFailed, match="nothing would be learned") as refusal:
        preflight(job(data__sprites=None, data__url=stored(labels=())))
    assert "nothing to score on" in str(refusal.value)
    pretext = {"kind": "pretrain", "pretrain": {"frames": 8}}
    preflight(job(data__sprites=None, data__url=stored("bare", labels=()), **pretext))  # which reads no labels


def test_an_epoch_is_chosen_by_videos_in_which_something_happens(job, stored):
    url = stored("three", subsets=("train", "validation", "test"))
    chosen = {"data__sprites": None, "data__url": url, "evaluate__select": "validation"}
    preflight(job(**chosen))
    manifest = read_manifest(url)
    bare = tuple(
        row._replace(labels=(), start_s=(), end_s=()) if row.subset == "validation" else row for row in manifest.rows
    )
    write_manifest(replace(manifest, rows=bare))
    with pytest.raises(PreflightFailed, match="every epoch would score 0 on it"):
        preflight(job(**chosen))
    preflight(job(**chosen | {"evaluate__select": "last"}))


def test_sources_of_other_classes_than_those_that_are_scored_on(job, stored):
    sources = [{"url": stored("one")}, {"url": stored("two", labels=("jump",))}]
    with pytest.raises(PreflightFailed, match="not in both: jump"):
        preflight(job(data__sprites=None, data__url=stored("three"), data__sources=sources))


def test_classes_that_are_spelt_otherwise_in_training_are_a_fault(job, stored):
    url = stored(labels=("High Jump", "run"), test_labels=("high_jump", "run"))
    with pytest.raises(PreflightFailed, match=r"1 of 2 classes of test .* such as 'high_jump' \('High Jump'\)"):
        preflight(job(data__sprites=None, data__url=url))


def test_what_is_allowed_and_perhaps_not_meant_is_said(job, stored):
    own = {"data__sprites": None, "data__url": stored(labels=("run",), test_labels=("run", "jump", "walk"))}
    [never] = preflight(job(**own))
    assert never.startswith("2 of 3 classes of subset 'test' are in no training video")
    assert never.endswith("jump, walk")
    [by_heart] = preflight(job(**own, data__test_subset="train"))
    assert "'train' of" in by_heart and "is trained on and scored on" in by_heart
    assert preflight(job(**own, data__test_subset="train", kind="pretrain", pretrain={"frames": 8})) == []


def test_a_job_under_the_name_of_another_is_found_before_it_runs(job, stored):
    own = {"data__sprites": None, "data__url": stored()}
    note_identity(stage_of(job(**own), "teacher"))
    preflight(job(**own))
    with pytest.raises(PreflightFailed, match=r"finished stages: .*changed: optim.lr"):
        preflight(job(**own, optim__lr=5e-3))


def test_what_would_be_written_into_the_folder_that_ray_deletes_is_refused(job, tmp_path, monkeypatch):
    uploaded = tmp_path / "working_dir_files" / "_ray_pkg_1"
    uploaded.mkdir(parents=True)
    monkeypatch.chdir(uploaded)
    with pytest.raises(PreflightFailed, match="--working-dir") as refusal:
        preflight(job(storage="runs", data__url="runs/data"), services=False)
    assert [fault.says.split(":")[0] for fault in refusal.value.faults] == ["storage", "data.url"]
    preflight(job(), services=False)  # of which all paths are absolute


def test_shards_that_were_lost_are_counted_against_the_budget(job, stored):
    url = stored()
    for shard in Path(url).glob("*.tar"):
        shard.unlink()
    assert Path(url, MANIFEST_NAME).exists()
    with pytest.raises(PreflightFailed, match="in shards that are not there"):
        preflight(job(data__sprites=None, data__url=url))


def test_a_full_disk_is_found(job, monkeypatch):
    import shutil

    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type(usage)(100 << 20, 99 << 20, 1 << 20))
    with pytest.raises(PreflightFailed) as refusal:
        preflight(job())
    assert {fault.check for fault in refusal.value.faults} == {"free space", "object store"}


def test_every_check_has_a_name_of_its_own():
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.find.__doc__ for check in CHECKS)


def test_validate_imports_no_cluster_package():
    code = (
        "import sys, tadscale.cli; assert tadscale.cli.main(['validate', sys.argv[1]]) == 0; "
        "sys.exit(', '.join({'ray', 'mlflow', 'deepspeed'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(JOBS / "distill.yaml")], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
