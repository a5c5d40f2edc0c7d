"""How a backbone learns without labels: the pretext's settings, the scale of its targets, and its step."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from tadscale.config import Config
from tadscale.engine.batch import WindowBatch
from tadscale.engine.optim import OptimConfig
from tadscale.models.pretext import PretextOutput, luma_and_chroma, on_grid

LAST_STEPS = 20  # a step's share of motion left unexplained varies by a tenth from batch to batch
BLIND = 0.9
"""Share of its targets that a pretext leaves unexplained where it has learned nothing of them. Sprites: small3d leaves 0.15
of motion after 750 steps; a ResNet-18 and an I3D, whose last maps have four places there, leave 1.00 (docs/results.md)."""
STILL = 1e-3
"""Smallest cost of predicting the mean that a batch's error is divided by, in the targets' own units: where nothing moves it
would be 0. Noise of unit deviation, averaged over a coarse grid, costs five times as much."""


class PretrainConfig(Config):
    """The label-free start of an RGB backbone: to predict its clip's own motion and colour."""

    frames: PositiveInt = 32
    """Sampled frames in a window here; windows stand side by side. Much shorter than a detector's: what is learned is
    local, and many different clips a step teach it sooner."""
    motion_weight: NonNegativeFloat = 3.0
    """Weight of motion's error beside colour's."""
    optim: OptimConfig = OptimConfig(epochs=14, global_batch=8, lr=2e-3, warmup_epochs=0.3)
    """Schedule of its own."""


class TargetScale(Config):
    """In which units the pretext's targets are learned, so that motion and colours weigh alike on any data."""

    motion_std: float
    """Root mean square of motion, as it comes (flow in units of its clip bound)."""
    colour_mean: tuple[float, float, float]
    """Of luma and chroma differences on the grid of the backbone's maps."""
    colour_std: tuple[float, float, float]
    """Likewise."""


def pretrain_step(
    settings: PretrainConfig, scale: TargetScale, model: nn.Module, batch: WindowBatch
) -> dict[str, Tensor]:
    """Smooth L1 to motion, squared error to colour, on the grid of each stage that is read.

    Returns:
        `loss`, the sum over the stages; of the last stage `motion` and `colour`, its parts, `motion_blind` and
        `colour_blind`, what predicting the mean would have cost, and `motion_unexplained` and `colour_unexplained`, the
        parts over those.
    """
    assert batch.frames is not None and batch.motion_fields is not None
    stages = [_stage_parts(scale, batch, output) for output in model(batch.frames, batch.mask)]
    losses = [settings.motion_weight * parts["motion"] + parts["colour"] for parts in stages]
    return {"loss": torch.stack(losses).sum(), **stages[-1]}


def _stage_parts(scale: TargetScale, batch: WindowBatch, output: PretextOutput) -> dict[str, Tensor]:
    """What `pretrain_step` returns of a stage."""
    assert batch.frames is not None and batch.motion_fields is not None
    motion = on_grid(batch.motion_fields / scale.motion_std, output.motion)  # [B, C, L, h, w]
    colour = scaled_colour(batch.frames, output.colour, scale)  # [B, 3, L, h, w]
    seen = F.adaptive_max_pool1d(batch.mask.float().unsqueeze(1), output.motion.shape[2])  # [B, 1, L]
    weight = seen * batch.valid[:, None, None]
    parts = {
        "motion": _mean(F.smooth_l1_loss(output.motion, motion, reduction="none"), weight),
        "colour": _mean(F.mse_loss(output.colour, colour, reduction="none"), weight),
    }
    blind = {
        "motion": _mean(F.smooth_l1_loss(torch.zeros_like(motion), motion, reduction="none"), weight),
        "colour": _mean(colour.square(), weight),
    }
    unexplained = {f"{name}_unexplained": parts[name].detach() / blind[name].clamp(min=STILL) for name in parts}
    return {**parts, **{f"{name}_blind": value for name, value in blind.items()}, **unexplained}


def unlearned(losses: Sequence[Mapping[str, float]], settings: PretrainConfig) -> list[str]:
    """What a backbone has not learned of `motion` and `colour`, where it was to.

    Of several steps errors are summed before they are divided: a batch in which nothing moves has little of either.

    Args:
        losses: `pretrain_step`'s of every step; the last ones count.
        settings: it was trained by.
    """
    last = losses[-LAST_STEPS:]
    wanted = ("motion", "colour") if settings.motion_weight else ("colour",)
    return [name for name in wanted if sum(s[name] for s in last) > BLIND * sum(_blind(s, name) for s in last)]


def _blind(step: Mapping[str, float], name: str) -> float:
    """What predicting the mean would have cost in a step; earlier versions logged its ratio alone."""
    if f"{name}_blind" in step:
        return step[f"{name}_blind"]
    return step[name] / max(step[f"{name}_unexplained"], 1e-9)


def scaled_colour(pictures: Tensor, maps: Tensor, scale: TargetScale) -> Tensor:
    """Colour targets on the grid of some maps, standardised: `[B, 3, L, h, w]`."""
    shape = (1, 3, 1, 1, 1)
    mean, std = (
        torch.tensor(values, device=maps.device).view(shape) for values in (scale.colour_mean, scale.colour_std)
    )
    return (on_grid(luma_and_chroma(pictures), maps) - mean) / std


def measure_scale(pictures: Tensor, motion: Tensor, cell: tuple[int, int, int]) -> TargetScale:
    """The units of the targets, from some windows `[B, T, H, W, 3]` uint8 and their motion `[B, C, T, H, W]`.

    Args:
        pictures: frames.
        motion: in [-1, 1].
        cell: frames, rows and columns of the backbone's last maps for such a window.
    """
    colour = F.adaptive_avg_pool3d(luma_and_chroma(pictures), cell)  # [B, 3, L, h, w]
    dims = (0, 2, 3, 4)
    mean, std = colour.mean(dims), colour.std(dims).clamp(min=1e-3)
    root = motion.float().square().mean().sqrt().clamp(min=1e-4)
    return TargetScale(motion_std=float(root), colour_mean=tuple(mean.tolist()), colour_std=tuple(std.tolist()))


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    """Mean over slots of each window's mean error over the steps that exist: `[B, C, L, h, w]`, `[B, 1, L]` to a scalar.

    Empty and quarantined windows count as zero, as everywhere: see `mean_over_slots`.
    """
    of_step = error.mean(dim=(1, 3, 4)) * weight[:, 0]  # [B, L]
    return (of_step.sum(dim=1) / weight[:, 0].sum(dim=1).clamp(min=1.0)).mean()
