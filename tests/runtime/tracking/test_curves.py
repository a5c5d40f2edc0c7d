"""A stage's curves: every step once, after a kill too."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tadscale.runtime.tracking.curves import DATA_EVERY_STEPS, RECORDED_TAG, StageCurves, step_metrics
from tadscale.runtime.tracking.run import Run
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401
from tests.runtime.training.test_monitor import RECORD


def test_steps_that_were_lost_or_trained_again_are_there_once(storage: Path) -> None:  # noqa: F811
    records = [replace(RECORD, step=step, losses={"loss": float(step)}) for step in range(6)]
    log = storage / "log.jsonl"
    log.write_text("".join(json.dumps(asdict(record) | {"positions": [[0, 1]]}) + "\n" for record in records))
    with track_job(TrackingConfig(), job="a", storage=str(storage), settings={}) as run:
        first = StageCurves(run)
        for record in records[:4]:  # of which 3 are sent before the kill
            first.add(record)
        del run._pending[-len(run._pending) // 4 :]
        run.flush()
        again = StageCurves(run)
        for record in records[2:]:  # from the checkpoint on, and the driver misses the last one
            if record.step != 5:
                again.add(record)
        again.complete(str(log))
        history = run.client.get_metric_history(run.run_id, "train/loss")
    assert sorted(point.step for point in history) == list(range(6))
    assert all(point.value == point.step for point in history)


def test_a_recorded_stage_is_asked_for_no_point_and_trained_again_it_has_each_step_once(
    storage: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [replace(RECORD, step=step, losses={"loss": float(step)}) for step in range(3)]
    asked = []
    logged_steps = Run.logged_steps
    monkeypatch.setattr(Run, "logged_steps", lambda run, key: asked.append(key) or logged_steps(run, key))
    with track_job(TrackingConfig(), job="a", storage=str(storage), settings={}) as run:
        first = StageCurves(run)
        assert not first.are_recorded("") and not first.are_recorded("digest")
        for record in records[:2]:
            first.add(record)
        run.flush()
        run.set_tags({RECORDED_TAG: "digest"})
        asked.clear()
        again = StageCurves(run)
        assert again.are_recorded("digest") and not again.are_recorded("another")
        assert not asked
        for record in records:
            again.add(record)
        run.flush()
        assert sorted(point.step for point in run.client.get_metric_history(run.run_id, "train/loss")) == [0, 1, 2]


def test_the_data_plane_s_figures_come_now_and_then_and_at_the_end() -> None:
    records = [replace(RECORD, step=step, total_steps=25, data={"retries": 2.0}) for step in range(25)]
    with_data = [record.step for record in records if step_metrics(record).get("data/retries") == 2.0]
    assert with_data == [*range(0, 25, DATA_EVERY_STEPS), 24]
    assert all("lr" in step_metrics(record) for record in records)
