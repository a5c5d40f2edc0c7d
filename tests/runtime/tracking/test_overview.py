"""What runs, read off a real store."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tadscale.cli import main
from tadscale.runtime.tracking import overview
from tadscale.runtime.tracking.curves import StageCurves
from tadscale.runtime.tracking.heartbeat import HEARD_TAG
from tadscale.runtime.tracking.overview import cells_seen, jobs_seen
from tadscale.runtime.tracking.run import PARENT_TAG, Run
from tadscale.runtime.tracking.track import CELL_TAG, TrackingConfig, track_job, track_stage
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401
from tests.runtime.training.test_monitor import RECORD
from tests.s3 import free_port


def job(storage: Path, name: str):  # noqa: F811
    return track_job(TrackingConfig(), job=name, storage=str(storage), settings={})


def train(parent, stage: str, steps: int, total: int = 8) -> None:
    with track_stage(parent, stage) as nested:
        curves = StageCurves(nested)
        for step in range(steps):
            curves.add(replace(RECORD, step=step, total_steps=total, losses={"loss": 3.0 - step}, data_wait_share=0.5))


def test_a_job_under_way_says_how_far_it_is_and_what_it_waits_for(storage: Path, capsys):  # noqa: F811
    with job(storage, "demo") as run:
        train(run, "teacher", 8)
        with track_stage(run, "baseline") as nested:
            curves = StageCurves(nested)
            curves.add(replace(RECORD, step=2, total_steps=8, losses={"loss": 1.25}, data_wait_share=0.5, eta_s=600.0))
            nested.flush()
            [seen] = jobs_seen(run.client, last=5)
            assert main(["runs", "demo", "--tracking-uri", run.tracking_uri]) == 0
    assert (seen.name, seen.state) == ("demo", "running")
    teacher, baseline = seen.stages
    assert (teacher.name, teacher.status, teacher.step, teacher.total_steps) == ("teacher", "FINISHED", 8, 8)
    assert (baseline.step, baseline.total_steps, baseline.loss) == (3, 8, 1.25)
    assert baseline.silent_s < 60
    shown = capsys.readouterr().out
    assert f"/#/experiments/{run.experiment_id}/runs/{run.run_id}" in shown
    for words in ("demo", "running", "baseline", "3/8", "10 min", "waits for data 50% of the time", "8/8"):
        assert words in shown


def test_a_job_that_fell_silent_is_not_called_running(storage: Path, monkeypatch, capsys):  # noqa: F811
    with job(storage, "killed") as run, track_stage(run, "teacher") as nested:
        StageCurves(nested).add(replace(RECORD, step=0, losses={"loss": 1.0}))
        nested.flush()
        later = time.time() + overview.SILENT_S + 60
        monkeypatch.setattr("time.time", lambda: later)
        [seen] = jobs_seen(run.client, last=5)
        assert seen.state == "silent"
        assert main(["runs", "--tracking-uri", run.tracking_uri]) == 0
    assert "not heard of for 3 min" in capsys.readouterr().out


def test_a_job_whose_last_stage_is_over_is_running_while_it_beats(storage: Path, monkeypatch, capsys):  # noqa: F811
    """As one that detects for an hour."""
    with job(storage, "detects") as run:
        train(run, "teacher", 8)
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 3600)
        run.set_tags({HEARD_TAG: str(now + 3590)})
        assert jobs_seen(run.client, last=1)[0].state == "running"
        assert main(["runs", "--tracking-uri", run.tracking_uri]) == 0
        run.set_tags({HEARD_TAG: str(now)})
        assert jobs_seen(run.client, last=1)[0].state == "silent"
    assert "not heard of" not in capsys.readouterr().out


def test_a_training_whose_steps_stopped_coming_is_told_though_its_driver_lives(storage: Path, monkeypatch, capsys):  # noqa: F811
    with job(storage, "hangs") as run, track_stage(run, "teacher") as nested:
        StageCurves(nested).add(replace(RECORD, step=5, losses={"loss": 1.0}))
        nested.flush()
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 3600)
        run.set_tags({HEARD_TAG: str(now + 3590)})
        assert main(["runs", "--tracking-uri", run.tracking_uri]) == 0
    shown = capsys.readouterr().out
    assert "running" in shown and "no step for 60 min" in " ".join(shown.split())


def test_a_grid_says_which_cell_it_is_at_and_shows_those_of_its_earlier_runs(storage: Path, capsys):  # noqa: F811
    def run_cells(run: Run, *names: str) -> None:
        for name in names:
            inside = {PARENT_TAG: run.run_id}
            with track_job(TrackingConfig(), job=name, storage=str(storage), settings={}, tags=inside) as cell:
                train(cell, "teacher", 8)

    with job(storage, "grid") as earlier:
        run_cells(earlier, "tags.seed0")
    with track_job(TrackingConfig(), job="grid", storage=str(storage), settings={"seeds": 2}) as run:
        run.set_tags({CELL_TAG: "2 of 15: afsd.seed0"})
        run_cells(run, "afsd.seed0")
        grid = next(one for one in jobs_seen(run.client, last=5) if one.run_id == run.run_id)
        assert [one.name for one in cells_seen(run.client, grid)] == ["afsd.seed0", "tags.seed0"]
        assert main(["runs", "grid", "--tracking-uri", run.tracking_uri]) == 0
        shown = capsys.readouterr().out
        assert "cell 2 of 15: afsd.seed0" in shown and "tags.seed0" in shown and "8/8" in shown
    assert main(["runs", "grid", "--tracking-uri", run.tracking_uri]) == 0
    assert "cell 2 of 15" not in capsys.readouterr().out  # it is over


def test_failed_and_finished_jobs_say_why_and_how_well(storage: Path, capsys):  # noqa: F811
    with pytest.raises(RuntimeError), job(storage, "broken"):
        raise RuntimeError("no space left")
    with job(storage, "done") as run:
        train(run, "teacher", 8)
        run.log_metrics({"teacher/average_mAP": 0.625})
    seen = {one.name: one for one in jobs_seen(run.client, last=5)}
    assert [one.name for one in jobs_seen(run.client, last=1)] == ["done"]
    assert (seen["broken"].state, seen["done"].state) == ("failed", "finished")
    assert seen["done"].scores == {"teacher": 0.625}
    assert main(["runs", "--tracking-uri", run.tracking_uri]) == 0
    shown = capsys.readouterr().out
    assert "no space left" in shown and "teacher 62.5" in shown


def test_an_empty_store_and_an_unknown_job_are_said_so(storage: Path, capsys):  # noqa: F811
    with job(storage, "done") as run:
        pass
    assert main(["runs", "other", "--tracking-uri", run.tracking_uri]) == 1
    assert "no run of 'other' yet" in capsys.readouterr().err


def test_a_store_that_is_away_is_said_in_one_line(capsys):
    where = f"http://127.0.0.1:{free_port()}"
    assert main(["runs", "--tracking-uri", where]) == 1
    said = capsys.readouterr().err.strip()
    assert f"the tracking store {where} does not answer" in said and "\n" not in said
