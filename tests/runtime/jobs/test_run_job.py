"""A job from end to end, without its stages."""

import json
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tadscale.gate.config import GateConfig
from tadscale.runtime.cluster.stopping import Preempted, StopToken
from tadscale.runtime.jobs import run_job as module
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import stage_of
from tadscale.runtime.tracking.run import PARENT_TAG, Run
from tadscale.runtime.tracking.track import track_job
from tests.runtime.conftest import result_of
from tests.runtime.jobs.preflight.conftest import changed, sound, stored  # noqa: F401
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401
from tests.runtime.training.test_monitor import RECORD


@pytest.fixture
def seen(tmp_path, monkeypatch) -> dict[str, Any]:
    """What the parts of a job are given, by their names; none of them does anything, and all stages are finished."""
    seen: dict[str, Any] = {}

    def part(name: str, result: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            seen[name] = (*arguments, *named.values())
            return result

        monkeypatch.setattr(module, name, call)

    run = SimpleNamespace(run_id="", set_tags=lambda tags: None)
    part("leased", nullcontext())
    part("track_job", nullcontext(run))
    part("_open_data", SimpleNamespace(digest=""))
    part("finished_stages", {mode: result_of(f"runs/x/{mode}", steps=4) for mode in ("teacher", "baseline")})
    part("evaluate_models", {})
    part("preflight", [])
    for name in ("connect", "_publish", "_conclude"):
        part(name, None)
    monkeypatch.chdir(tmp_path)
    return seen


EVALUATE = {"kind": "evaluate", "name": "x", "storage": "runs", "data": {"url": "shards"}}


def test_every_part_of_a_job_sees_its_paths_from_where_it_was_started(tmp_path, seen):
    """Also evaluation, and whoever records and leases it: on a cluster they run in other folders."""
    job = JobConfig.model_validate(EVALUATE)
    module.run_job(job, Console(), StopToken())
    assert seen["preflight"] == (job,)  # as it was written: it tells of relative paths
    assert seen["leased"][0] == f"{tmp_path}/runs/x"
    assert f"{tmp_path}/runs" in seen["track_job"]
    for name in ("_open_data", "evaluate_models", "_publish"):
        assert seen[name][0].data.url == f"{tmp_path}/shards"


@pytest.mark.parametrize(("named", "evaluated"), [({}, {"teacher", "baseline"}), ({"url": "elsewhere"}, {"baseline"})])
def test_a_teacher_that_is_named_is_evaluated_in_place_of_the_run_s_own(named, evaluated, tmp_path, seen):
    module.run_job(JobConfig.model_validate(EVALUATE | {"teacher": named}), Console(), StopToken())
    job, _, stages, choices, _ = seen["evaluate_models"]
    assert stages.keys() == choices.keys() == evaluated
    assert job.teacher.url == (f"{tmp_path}/elsewhere" if named else None)


def test_previews_are_of_what_is_trained_on(stored, tmp_path):  # noqa: F811
    sources = [{"url": stored("one", subsets=("train",))}, {"url": stored("two", subsets=("train",))}]
    scored = stored("scored", subsets=("test",))
    changes = {"data.sprites": None, "data.url": scored, "data.sources": sources}
    planned = JobConfig.model_validate(changed(sound(tmp_path), changes))
    names: list[str] = []
    run: Any = SimpleNamespace(log_bytes=lambda data, name: names.append(name))
    module._record_previews(planned, run)
    assert {Path(name).stem for name in names} == {"one-train-0", "one-train-1"}


def test_a_stage_that_is_over_is_sent_to_its_record_once(storage, monkeypatch):  # noqa: F811
    settings = {"kind": "teacher", "name": "x", "storage": str(storage), "data": {"url": "shards"}}
    stage = stage_of(JobConfig.model_validate(settings), "teacher")
    Path(stage.url).mkdir(parents=True)
    Path(stage.log_url).write_text(json.dumps(asdict(RECORD) | {"valid": 2}) + "\n")
    Path(stage.quarantine_url).write_text("")
    result = result_of(stage.url, steps=4)
    monkeypatch.setattr(module, "train_stage", lambda *arguments: result)
    sent = []
    log_bytes = Run.log_bytes
    monkeypatch.setattr(Run, "log_bytes", lambda run, data, name: sent.append(name) or log_bytes(run, data, name))
    for _ in range(3):
        with suppress(Preempted), track_job(stage.job.tracking, job="x", storage=str(storage), settings={}) as run:
            module._train(stage, run, Console(), StopToken())
            raise Preempted("before the next stage")
    [nested] = run.client.search_runs([run.experiment_id], f"tags.`{PARENT_TAG}` = '{run.run_id}'")
    assert [point.step for point in run.client.get_metric_history(nested.info.run_id, "train/loss")] == [3]
    assert sent.count("log.jsonl") == sent.count("quarantine.jsonl") == 1


def test_a_job_without_a_gate_compares_nothing_and_one_with_it_ends_with_what_it_left(monkeypatch, capsys):
    calls: list[Any] = []
    outcome = SimpleNamespace(verdict=None, challenger=SimpleNamespace(version=2), against=1)
    monkeypatch.setattr(module, "run_gate", lambda *arguments: calls.append(arguments) or outcome)
    monkeypatch.setattr(module, "Registry", lambda *arguments: arguments)
    settings = {"kind": "distill", "name": "x", "storage": "runs", "data": {"url": "shards"}}
    model, run = SimpleNamespace(name="tiny", version=2), SimpleNamespace(tracking_uri="sqlite:///x", patience_s=1.0)
    plain = JobConfig.model_validate(settings)
    gated = JobConfig.model_validate(settings | {"gate": {"policy": "not_worse", "margin": 0.01}})
    console = Console()
    assert plain.gate is None and module._decide(plain, model, run, console) is model and not calls
    assert module._decide(gated, None, run, console) is None and not calls  # nothing was registered
    assert module._decide(gated, model, run, console) is outcome.challenger
    assert calls == [(gated, GateConfig(policy="not_worse", margin=0.01), ("sqlite:///x", 1.0), "tiny", 2)]
    assert "gate       version 2 is the champion" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pretrain", "teacher"])
def test_a_gate_needs_something_registered(kind):
    settings = {"kind": kind, "name": "x", "storage": "runs", "data": {"url": "shards"}, "pretrain": {}, "gate": {}}
    with pytest.raises(ValueError, match=f"this job of kind {kind} names none"):
        JobConfig.model_validate(settings)


def test_a_teacher_s_time_on_video_is_not_asked():
    settings = {"kind": "teacher", "name": "x", "storage": "runs", "data": {"url": "shards"}}
    settings |= {"tracking": {"registered_teacher": "t"}, "gate": {"budgets": {"weights_bytes": 9}}}
    assert JobConfig.model_validate(settings).gate
    slow = settings | {"gate": {"budgets": {"seconds_per_video_second": 1}}}
    with pytest.raises(ValueError, match="a teacher reads motion"):
        JobConfig.model_validate(slow)
