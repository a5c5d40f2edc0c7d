"""Arithmetic of `tadscale plan`, and that its rates are measured."""

import math
import re

import pytest
import yaml

from tadscale.cli import main
from tadscale.report.live_line import format_duration
from tadscale.runtime.planning.forecast import STAGE_START_S, forecast, stage_modes, teacher_cache_forecast
from tadscale.runtime.planning.rates import EpochWindows, Rates
from tadscale.runtime.planning.tables import forecast_lines
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import planned_stages, with_contents
from tests.runtime.conftest import finish

RATES = Rates(
    fetch_s=0.1,
    motion_s=3.0,
    teacher_s=1.0,
    train_s={"pretrain": 0.2, "teacher": 0.5, "baseline": 0.5, "decomposed": 1.0},
    parameters={"pretrain": 1 << 19, "teacher": 1 << 20, "baseline": 1 << 20, "decomposed": 2 << 20},
    motion_bytes=1 << 20,
    taught_bytes=1 << 10,
)
TEN = EpochWindows(detectors=10, pretext=33)
GPUS = {"workers": 2, "gpus_per_worker": 1, "motion_actors": 2, "gpus_per_motion": 1}


def job(**settings) -> JobConfig:
    given = {
        "kind": "distill",
        "name": "x",
        "storage": "runs",
        "data": {"url": "nowhere", "window": {"augment": {"flip_probability": 0.5}}},
        "optim": {"epochs": 3, "global_batch": 4},
        "cluster": GPUS,
    }
    return JobConfig.model_validate(given | settings)


def by_mode(job: JobConfig, windows: EpochWindows = TEN, cpus: int = 100):
    return {stage.mode: stage for stage in forecast(job, windows, RATES, cpus).stages}


def test_the_slowest_part_decides():
    stages = by_mode(job())
    assert list(stages) == ["teacher", "baseline", "decomposed"]
    assert stages["teacher"].steps == 9  # 3 global batches hold 10 windows
    assert (stages["teacher"].waits_for, stages["teacher"].step_s) == ("motion", 4 * 3.0 / 2)
    assert (stages["baseline"].waits_for, stages["baseline"].step_s) == ("training", 2 * 0.5)
    assert (stages["decomposed"].waits_for, stages["decomposed"].step_s) == ("motion", 4 * 4.0 / 2)
    assert stages["decomposed"].seconds == pytest.approx(STAGE_START_S + 9 * 8.0)


def test_an_appearance_teacher_takes_its_pass_of_the_students_workers():
    rates = RATES._replace(appearance_teacher_s=9.0)
    taught = {stage.mode: stage for stage in forecast(job(), TEN, rates, 100).stages}
    assert (taught["decomposed"].waits_for, taught["decomposed"].step_s) == ("training", 2 * (1.0 + 9.0))
    assert taught["baseline"] == by_mode(job())["baseline"]


def test_as_many_motion_actors_as_it_says_keep_training_busy():
    needed = math.ceil(2 * by_mode(job())["decomposed"].motion_per_worker)
    enough, fewer = (job(cluster=GPUS | {"motion_actors": count}) for count in (needed, needed - 1))
    assert by_mode(enough)["decomposed"].waits_for == "training"
    assert by_mode(fewer)["decomposed"].waits_for == "motion"


def test_what_is_remembered_costs_motion_in_the_first_epoch_only():
    plain = {"data": {"url": "nowhere"}, "cluster": GPUS | {"motion_actors": 1}}
    epoch_s = 3 * 4 * 4.0  # of motion
    assert by_mode(job(**plain))["decomposed"].seconds == pytest.approx(STAGE_START_S + epoch_s + 2 * 3 * 2 * 1.0)
    none = plain | {"cluster": plain["cluster"] | {"motion_memo_mib": 0}}
    assert by_mode(job(**none))["decomposed"].seconds == pytest.approx(STAGE_START_S + 3 * epoch_s)


def test_motion_actors_with_nothing_left_to_do_keep_their_cpus():
    """All is remembered after the first epoch, and still no more than one window is fetched at a time."""
    slow, cluster = RATES._replace(fetch_s=100.0), GPUS | {"motion_actors": 1, "cpus_per_motion": 3}
    held = {"data": {"url": "nowhere"}, "cluster": cluster | {"cpus_per_worker": 1, "cpus_per_fetch": 1}}
    stages = {stage.mode: stage for stage in forecast(job(**held), TEN, slow, 6).stages}
    assert stages["teacher"].seconds == pytest.approx(STAGE_START_S + 9 * 4 * 100.0)
    assert stages["baseline"].seconds == pytest.approx(STAGE_START_S + 9 * 4 * 100.0 / 4)


def test_a_filled_cache_saves_the_motion_that_would_be_waited_for():
    """One epoch: 3 steps of 4 windows of 4 s by two actors, or what training and reading take instead."""
    once = {"data": {"url": "nowhere"}, "optim": {"epochs": 1, "global_batch": 4}}
    expected = forecast(job(**once), TEN, RATES, 100)
    found = teacher_cache_forecast(job(**once), expected)
    assert found.bytes == 10 << 10
    assert found.saved_s == pytest.approx(3 * (4 * 4.0 / 2 - 2 * 1.0))
    assert forecast_lines(expected, found)[-1].endswith(
        "would hold 0.0 MiB; a run that finds it filled takes 0:18 less"
    )
    light = RATES._replace(motion_s=0.01, teacher_s=0.01)
    nothing = teacher_cache_forecast(job(**once), forecast(job(**once), TEN, light, 100))
    assert nothing.saved_s == 0
    assert "motion is not waited for" in forecast_lines(expected, nothing)[-1]
    assert teacher_cache_forecast(job(), forecast(job(), TEN, RATES, 100)) is None  # windows are flipped by chance
    assert (
        teacher_cache_forecast(job(kind="teacher", **once), forecast(job(kind="teacher", **once), TEN, RATES, 100))
        is None
    )


def test_the_pretext_has_a_schedule_and_windows_of_its_own():
    window = {"frames": 128, "stride_frames": 128, "augment": {"flip_probability": 0.5}}
    schedule = {"frames": 32, "optim": {"epochs": 2, "global_batch": 8}}
    settings = job(data={"url": "nowhere", "window": window}, pretrain=schedule)
    stages = by_mode(settings)
    assert list(stages) == ["pretrain", "teacher", "baseline", "decomposed"]
    assert stages["pretrain"].steps == 2 * math.ceil(33 / 8)
    # A quarter of a window's motion, no teacher: 8 windows of .75 s by 2 actors.
    assert (stages["pretrain"].waits_for, stages["pretrain"].step_s) == ("motion", pytest.approx(8 * 0.75 / 2))


def test_a_student_goes_through_unlabelled_windows_too():
    windows = TEN._replace(students=30)
    expected = forecast(job(), windows, RATES, 100)
    steps = {stage.mode: stage.steps for stage in expected.stages}
    assert steps == {"teacher": 9, "baseline": 9, "decomposed": 3 * math.ceil(30 / 4)}
    assert expected.windows == 30
    assert forecast(job(kind="teacher"), windows, RATES, 100).windows == 10


def test_few_cpus_decide_where_everything_shares_them():
    shared = job(cluster={"workers": 2, "motion_actors": 4})
    assert by_mode(shared, cpus=2)["decomposed"].waits_for == "CPUs"
    assert by_mode(shared, cpus=2)["decomposed"].step_s > 4 * (1.0 + 4.0 + 0.1) / 2


def test_workers_that_read_for_themselves_make_their_own_motion_and_wait_for_no_packet():
    alone = {"workers": 2, "cpus_per_worker": 0.5, "cpus_per_fetch": 0.5}
    stage = by_mode(job(cluster=alone))["decomposed"]
    assert (stage.plane, stage.motion_per_worker) == ("embedded", 0.0)
    assert (stage.waits_for, stage.step_s) == ("motion", 2 * 4.0)  # each worker its own two windows
    busy = by_mode(job(cluster=alone), cpus=1)["decomposed"]
    assert (busy.waits_for, busy.step_s) == ("CPUs", pytest.approx(4 * (1.0 + 4.0 + 0.1)))
    assert by_mode(job(cluster=alone | {"data_plane": "ray"}), cpus=1)["decomposed"].step_s > busy.step_s


def test_a_worker_remembers_what_it_decoded_and_the_other_one_does_not():
    window = {"frames": 16, "stride_frames": 16, "height": 16, "width": 16}
    plain = {"data": {"url": "nowhere", "window": window}}
    one, two = (
        forecast(job(**plain, cluster={"workers": n, "cpus_per_fetch": 0.001}), TEN, RATES._replace(fetch_s=100.0), 1)
        for n in (1, 2)
    )
    baselines = [{stage.mode: stage for stage in each.stages}["baseline"] for each in (one, two)]
    epoch_s = 3 * 4 * (100.0 + 0.5)
    assert baselines[0].seconds == pytest.approx(STAGE_START_S + epoch_s + 2 * 3 * 4 * 0.5)
    assert baselines[1].seconds == pytest.approx(STAGE_START_S + epoch_s + 2 * 3 * 4 * (50.0 + 0.5))


def test_what_a_job_trains():
    assert stage_modes(job(kind="teacher")) == ["teacher"]
    assert stage_modes(job(kind="evaluate")) == []
    assert stage_modes(job(baseline=False, student={"mode": "conventional"})) == ["teacher", "conventional"]


def test_the_command_measures_data_that_are_not_drawn_yet(tmp_path, capsys):
    path = tmp_path / "job.yaml"
    path.write_text(
        f"""
kind: distill
name: x
storage: {tmp_path}/runs
data:
  url: {tmp_path}/data
  sprites: {{train: 30, size: 32, duration_s: 8, fps: 5}}
  window: {{frames: 16, stride_frames: 16, fps: 5, height: 32, width: 32}}
motion: {{name: temporal_gradient_fast}}
model: {{backbone: {{name: small3d, width: 4, stride: 2}}, dim: 8, head: {{name: actionformer, dim: 8}}}}
pretrain: {{frames: 8, optim: {{epochs: 1, global_batch: 2}}}}
student: {{appearance_teacher: {{}}}}
optim: {{epochs: 2, global_batch: 4}}
"""
    )
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    assert "90 windows an epoch" in said  # 40 frames in windows of 16
    assert re.search(r"pretrain .* 75 ", said)  # and in 5 of 8, not in 3 times 2 of them: 150, two a step
    assert all(stage in said for stage in ("teacher", "baseline", "decomposed", "appearance teacher"))
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "runs").exists()


def test_what_is_finished_is_marked_and_neither_measured_nor_in_the_sum(make_stage, tmp_path, monkeypatch, capsys):
    measured: list[list[str]] = []

    def measure(job, modes, appearance):
        measured.append(modes)
        return RATES._replace(train_s={mode: RATES.train_s[mode] for mode in modes}), TEN

    monkeypatch.setattr("tadscale.runtime.planning.rates.measure_rates", measure)
    planned = make_stage(tmp_path / "run").job
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(planned.model_dump(mode="json")))
    teacher, *others = planned_stages(planned)
    finish(with_contents(teacher))
    assert main(["plan", str(path), "--cpus", "100"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"teacher +│ finished", said)
    left = forecast(planned, TEN, RATES, 100).stages[1:]
    assert measured == [[stage.mode for stage in left]]
    assert f"training   {format_duration(sum(stage.seconds for stage in left))} in all" in said
    for stage in others:
        finish(with_contents(stage))
    assert main(["plan", str(path)]) == 0
    assert "nothing is left: teacher, baseline, decomposed finished" in capsys.readouterr().out
    assert len(measured) == 1


def test_a_job_that_trains_nothing_has_no_plan(capsys):
    assert main(["plan", "jobs/evaluate.yaml"]) == 1
    assert "only evaluates" in capsys.readouterr().err


def test_gpu_jobs_are_not_measured_where_there_is_no_gpu(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert main(["plan", "jobs/distill.yaml", "--set", "cluster.gpus_per_worker=1"]) == 1
    said = capsys.readouterr().err
    assert "has 0 GPUs" in said and "cluster.gpus_per_worker=0" in said
