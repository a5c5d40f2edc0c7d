"""Optimiser settings, parameter groups, and the learning rate as a pure function of the step."""

import math
from typing import Any

from torch import nn
from torch.optim import AdamW

from tadscale.config import Config


class OptimConfig(Config):
    """How the weights are updated. Published defaults of ActionFormer-style training, scaled to the job."""

    epochs: int = 20
    """Passes over the training windows."""
    global_batch: int = 8
    """Windows per optimiser step over all workers; the number of workers must divide it."""
    lr: float = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """Decoupled weight decay, on matrices and convolutions only."""
    warmup_epochs: float = 2.0
    """Epochs of linear warm-up; cosine decay to zero follows."""
    clip_norm: float = 1.0
    """Largest gradient norm; larger gradients are scaled down to it."""
    ema_decay: float = 0.99
    """Decay of the exponential moving average of the weights, which is what is evaluated and registered."""


def learning_rate(config: OptimConfig, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then cosine to zero (Loshchilov and Hutter 2017). A pure function: resume needs no state."""
    total = config.epochs * steps_per_epoch
    warmup = max(1, round(config.warmup_epochs * steps_per_epoch))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def build_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW with decay on weights of two or more dimensions alone; biases, gains and scalars are left free."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=config.lr)
