"""A job from end to end, without its stages."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from rich.console import Console

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
