"""The units of the pretext's targets, where there is little to measure them on."""

import math

from tadscale.engine.optim import OptimConfig
from tadscale.engine.pretrain import PretrainConfig
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.training.target_scale import MEASURED_WINDOWS, measure_target_scale


def test_a_run_of_few_windows_is_measured_on_those_that_it_has(make_stage, tmp_path):
    pretrain = PretrainConfig(frames=16, optim=OptimConfig(epochs=1, global_batch=2))
    stage = make_stage(tmp_path, "pretrain", pretrain=pretrain)
    manifest, plan = open_plan(stage.plan)
    assert len(plan.windows) < MEASURED_WINDOWS
    scale = measure_target_scale(stage, stage.network(manifest.classes))
    assert all(math.isfinite(value) and value > 0 for value in (scale.motion_std, *scale.colour_std))
