"""One rank of `test_deepspeed_engine`: trains a toy network on its share of fixed global batches.

`python engine_process.py RANK WORLD_SIZE PORT FOLDER` trains 4 steps with each preset and saves `FOLDER/half-PRESET`,
trains 4 more, then does the second half again from that state, and once more from `FOLDER/local`, which the test put there.
"""

import sys
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from tadscale.engine.engine import Engine, NonFiniteGradient
from tadscale.engine.optim import OptimConfig
from tadscale.engine.state import load_state, save_state
from tadscale.models.backbones.frozen_norm import FrozenBatchNorm2d
from tadscale.runtime.cluster.deepspeed_preset import ZERO_1, ZERO_1_BFLOAT16
from tests.runtime.training.two_ranks import take_part

PRESETS: dict[str, dict[str, Any]] = {
    "zero0": {"zero_optimization": {"stage": 0}},
    "zero1": ZERO_1,
    "zero2": {"zero_optimization": {"stage": 2}},
    "offload": {
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
    },
    "bfloat16": ZERO_1_BFLOAT16,
}
HALF, WHOLE = 4, 8
GLOBAL_BATCH = 4
CONFIG = OptimConfig(lr=0.01, backbone_lr_factor=0.3, clip_norm=0.5, weight_decay=0.1, global_batch=GLOBAL_BATCH)


def toy() -> nn.Module:
    """A backbone, its first layer frozen and with a counter as batch norms have, and a head."""
    torch.manual_seed(0)
    frozen = FrozenBatchNorm2d(5)
    frozen.running_mean.normal_()
    picture, flat = nn.Unflatten(1, (5, 1, 1)), nn.Flatten()
    backbone = nn.Sequential(picture, frozen, flat, nn.Linear(5, 7), nn.GELU(), nn.LayerNorm(7))
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(7, 3)))


def run(engine: Engine, first: int, stop: int, rank: int = 0, world_size: int = 1) -> list[float]:
    """Loss and gradient norm of every step."""
    seen = []
    for step in range(first, stop):
        whole = torch.randn(GLOBAL_BATCH, 5, generator=torch.Generator().manual_seed(step))
        engine.set_lr(CONFIG.lr * (1 + step) / 10)
        loss = engine.model(whole.chunk(world_size)[rank]).square().sum(1).mean() * 10
        engine.backward(loss)
        norm = engine.step()
        seen += [float(engine.mean(loss.detach())), norm]
    return seen


def refuses_what_is_not_finite(engine: Engine, rank: int, world_size: int) -> bool:
    """Whether a gradient that is infinite on the last rank alone stops every rank before a weight changes."""
    before = engine.state(WHOLE)
    loss = engine.model(torch.ones(GLOBAL_BATCH // world_size, 5)).square().sum(1).mean()
    engine.backward(loss * (float("inf") if rank == world_size - 1 else 1.0))
    try:
        engine.step()
    except NonFiniteGradient:
        after = engine.state(WHOLE)
        return all(torch.equal(value, after.tensors[name]) for name, value in before.tensors.items())
    return False


def main(rank: int, world_size: int, folder: str) -> None:
    from tadscale.runtime.training.deepspeed_engine import DeepSpeedEngine

    def build(name: str) -> DeepSpeedEngine:
        share = GLOBAL_BATCH // world_size
        return DeepSpeedEngine(toy(), CONFIG, micro_batch=share, preset=PRESETS[name], device="cpu")

    for name in PRESETS:
        engine = build(name)
        first = run(engine, 0, HALF, rank, world_size)
        half = engine.state(HALF)
        on = run(engine, HALF, WHOLE, rank, world_size)
        end = engine.state(WHOLE)
        resumed, from_local = build(name), build(name)
        resumed.load_state(half)
        again = run(resumed, HALF, WHOLE, rank, world_size)
        same_end = all(torch.equal(value, end.tensors[key]) for key, value in resumed.state(WHOLE).tensors.items())
        from_local.load_state(load_state(f"{folder}/local")[0])
        grown = run(from_local, HALF, WHOLE, rank, world_size)
        refused = refuses_what_is_not_finite(resumed, rank, world_size)
        if rank == 0:
            losses = {
                "first": first,
                "on": on,
                "again": again,
                "grown": grown,
                "same_end": same_end,
                "refused": refused,
                "imported": [module for module in ("mlflow", "torch._inductor.compile_fx") if module in sys.modules],
            }
            save_state(f"{folder}/half-{name}", half, losses)
            save_state(f"{folder}/end-{name}", end, {})


if __name__ == "__main__":
    take_part(main)
