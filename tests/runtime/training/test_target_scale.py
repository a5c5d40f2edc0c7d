"""The units of the pretext's targets, where there is little to measure them on."""

import math

import pytest

from tadscale.engine.optim import OptimConfig
from tadscale.engine.pretrain import PretrainConfig
from tadscale.runtime.stage import plan_spec
from tadscale.runtime.stage.plan_spec import ReadSources, open_plan
from tadscale.runtime.training.target_scale import MEASURED_WINDOWS, measure_target_scale


@pytest.fixture
def stage(make_stage, tmp_path):
    pretrain = PretrainConfig(frames=16, optim=OptimConfig(epochs=1, global_batch=2))
    return make_stage(tmp_path, "pretrain", pretrain=pretrain)


def test_a_run_of_few_windows_is_measured_on_those_that_it_has(stage):
    manifest, plan = open_plan(stage.plan)
    assert len(plan.windows) < MEASURED_WINDOWS
    scale = measure_target_scale(stage, stage.network(manifest.classes), ReadSources.of(manifest))
    assert all(math.isfinite(value) and value > 0 for value in (scale.motion_std, *scale.colour_std))


def test_no_rank_reads_the_manifests_as_a_whole_that_the_driver_has_read(stage, monkeypatch):
    manifest, _ = open_plan(stage.plan)
    opened, real = [], plan_spec.open_sources

    def counted(sources, verified=True):
        opened.append(verified)
        return real(sources, verified=verified)

    monkeypatch.setattr(plan_spec, "open_sources", counted)
    open_plan.cache_clear()
    measure_target_scale(stage, stage.network(manifest.classes), ReadSources.of(manifest))
    assert opened == [False]
