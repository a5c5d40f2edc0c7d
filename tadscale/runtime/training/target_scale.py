"""The units of the pretext's targets, measured on the plan's first windows: the same on every rank, by the same data."""

import torch

from tadscale.engine.pretrain import TargetScale, measure_scale
from tadscale.errors import UserError
from tadscale.flow.motion import build_motion, window_motion
from tadscale.models.pretext import PretextNetwork
from tadscale.network import NetworkSpec
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.packets import PacketLayout
from tadscale.runtime.stage.plan_spec import ReadSources, open_plan
from tadscale.runtime.stage.spec import Stage

MEASURED_WINDOWS = 32  # of 32 frames: 1,000 pictures, whose deviation is known to 2 or 3 percent


def measure_target_scale(stage: Stage, network: NetworkSpec, read: ReadSources) -> TargetScale:
    """Decode a few windows and compute their motion, on the CPU.

    Args:
        stage: a pretext's.
        network: what it trains.
        read: what the driver found in the manifests of the stage's sources.

    Raises:
        UserError: none of them can be read.
        StorageError: the storage cannot be reached.
    """
    spec = stage.plan.model_copy(update={"global_batch": 1})  # its first windows, whatever the batch
    _, plan = open_plan(spec, read)
    measured = min(MEASURED_WINDOWS, plan.total_steps)
    layout = PacketLayout(first_step=0, total_steps=measured, global_batch=1, world_size=1, windows=measured)
    columns = fetch_packet(0, spec, layout, stage.flow_url, read=read)
    whole = columns["mask"].all(axis=1)
    if not whole.any():
        raise UserError(
            f"none of the first {measured} training windows is whole: videos are shorter than pretrain.frames, or "
            "cannot be read; `tadscale data lint --decode` finds bad ones"
        )
    pictures = torch.from_numpy(columns["frames"][whole])
    source = pictures if stage.flow_url is None else torch.from_numpy(columns["flow"][whole])
    motion = window_motion(build_motion(stage.job.motion), source, [stage.window.frames] * len(source))
    built = network.build(for_training=True)
    assert isinstance(built, PretextNetwork)
    with torch.no_grad():
        maps = built.backbone.maps(built.backbone.normalise(pictures[:1]))
    steps, rows, columns_ = maps.shape[2:]
    return measure_scale(pictures, motion, (steps, rows, columns_))
