"""A tiny problem for the loop: windows of random pictures, deterministic from their positions."""

from collections.abc import Callable, Iterator

import pytest
import torch

from tadscale.engine.batch import WindowBatch
from tadscale.engine.loop import Expected
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.heads.objective import Targets

FRAMES, SIZE, BATCH, STEPS_PER_EPOCH, EPOCHS = 16, 16, 2, 4, 3


@pytest.fixture
def tiny_model() -> ModelConfig:
    """A network small enough to train for a dozen steps in a second."""
    head = ActionFormerConfig(dim=8, levels=2, heads=2, min_positives=1)
    return ModelConfig(backbone=Small3dConfig(width=4), dim=8, head=head)


@pytest.fixture
def expected() -> Expected:
    """What a plan of EPOCHS x STEPS_PER_EPOCH steps promises to a single rank."""
    return Expected(
        total_steps=EPOCHS * STEPS_PER_EPOCH,
        steps_per_epoch=STEPS_PER_EPOCH,
        global_batch=BATCH,
        positions=lambda step: torch.arange(step * BATCH, (step + 1) * BATCH),
    )


def make_batch(step: int, *, valid: tuple[bool, ...] = (True, True)) -> WindowBatch:
    """The batch of one step, always the same."""
    generator = torch.Generator().manual_seed(step)
    return WindowBatch(
        positions=torch.arange(step * BATCH, (step + 1) * BATCH),
        valid=torch.tensor(valid),
        labelled=torch.ones(BATCH, dtype=torch.bool),
        mask=torch.ones(BATCH, FRAMES, dtype=torch.bool),
        targets=Targets(segments_frames=torch.tensor([[[2.0, 8.0]], [[6.0, 14.0]]]), labels=torch.tensor([[0], [1]])),
        frames=torch.randint(0, 256, (BATCH, FRAMES, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8),
    )


@pytest.fixture
def batches() -> Callable[[int], Iterator[WindowBatch]]:
    """All batches from a step on."""
    return lambda first=0: (make_batch(step) for step in range(first, EPOCHS * STEPS_PER_EPOCH))
