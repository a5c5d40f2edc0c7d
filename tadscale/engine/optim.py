"""Optimiser settings, parameter groups, and the learning rate as a pure function of the step."""

import math
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn
from torch.optim import AdamW

from tadscale.config import Config
from tadscale.models.backbones.base import BACKBONE


class OptimConfig(Config):
    """How the weights are updated. Published defaults of ActionFormer-style training, scaled to the job."""

    epochs: PositiveInt = 20
    """Passes over the training windows."""
    global_batch: PositiveInt = 8
    """Windows per optimiser step over all workers; the number of workers must divide it."""
    lr: float = Field(default=2e-3, gt=0, le=1)
    """Peak learning rate of AdamW, which moves every weight by about as much a step."""
    backbone_lr_factor: float = Field(default=1.0, gt=0)
    """Learning rate of the backbone over that of the rest, where it starts from trained weights; 1 where it does not."""
    weight_decay: float = Field(default=0.05, ge=0, le=1)
    """Decoupled weight decay, on matrices and convolutions only."""
    warmup_epochs: NonNegativeFloat = 2.0
    """Epochs of linear warm-up, at most half of all; cosine decay to zero follows."""
    clip_norm: PositiveFloat = 1.0
    """Largest gradient norm; larger gradients are scaled down to it."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is what is evaluated and registered. At 0 it is the last
    weights; at 1 it would stay the untrained ones."""


def without_start(config: OptimConfig) -> OptimConfig:
    """The same settings for a backbone that starts from nothing: it has all to learn, at the rate of the rest."""
    return config.model_copy(update={"backbone_lr_factor": 1.0})


def learning_rate(config: OptimConfig, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then cosine to zero (Loshchilov and Hutter 2017). A pure function: resume needs no state.

    The warm-up takes half of the steps at most: a job that is tried for an epoch would else end before its peak.
    """
    total = config.epochs * steps_per_epoch
    warmup = max(1, round(min(config.warmup_epochs, config.epochs / 2) * steps_per_epoch))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def build_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW over what has a gradient; decay on weights of two or more dimensions alone, not on biases, gains and scalars.

    Every group says in `lr_factor` what its learning rate is multiplied by; `set_learning_rate` keeps to it.
    """
    kinds: dict[tuple[bool, float], list[nn.Parameter]] = {}  # (free of decay, factor)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = config.backbone_lr_factor if name.startswith(BACKBONE) else 1.0
            kinds.setdefault((parameter.ndim < 2, factor), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": 0.0 if free else config.weight_decay, "lr_factor": factor}
        for (free, factor), parameters in sorted(kinds.items(), key=lambda kind: kind[0])
    ]
    optimizer = AdamW(groups, lr=config.lr)
    set_learning_rate(optimizer.param_groups, config.lr)
    return optimizer


def set_learning_rate(groups: list[dict[str, Any]], lr: float) -> None:
    """Use `lr` in all groups of `build_optimizer`, each times its factor."""
    for group in groups:
        group["lr"] = lr * group["lr_factor"]
