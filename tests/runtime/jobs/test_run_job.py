"""A job from end to end, without its stages."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tadscale.gate.config import GateConfig
from tadscale.runtime.cluster.stopping import StopToken
from tadscale.runtime.jobs import run_job as module
from tadscale.runtime.stage.job import JobConfig


def test_every_part_of_a_job_sees_its_paths_from_where_it_was_started(tmp_path, monkeypatch):
    """Also evaluation, and whoever records and leases it: on a cluster they run in other folders."""
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
    part("finished_stages", {})
    part("evaluate_models", {})
    for name in ("preflight", "connect", "_publish", "_conclude"):
        part(name, None)
    monkeypatch.chdir(tmp_path)
    job = JobConfig.model_validate({"kind": "evaluate", "name": "x", "storage": "runs", "data": {"url": "shards"}})
    module.run_job(job, Console(), StopToken())
    assert seen["preflight"] == (job,)  # as it was written: it tells of relative paths
    assert seen["leased"][0] == f"{tmp_path}/runs/x"
    assert f"{tmp_path}/runs" in seen["track_job"]
    for name in ("_open_data", "evaluate_models", "_publish"):
        assert seen[name][0].data.url == f"{tmp_path}/shards"


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
