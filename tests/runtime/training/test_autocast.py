"""Every training mode behind the engine while the network computes in bfloat16, as it does by default on GPUs."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from tadscale.engine.batch import WindowBatch
from tadscale.engine.steps import DistillConfig, Lesson, StudentConfig, step_function
from tadscale.models.backbones.base import BackboneSettings
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.backbones.tsm_resnet import TsmR18Config
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.heads.objective import build_objective
from tadscale.models.student import Student
from tadscale.network import Mode
from tadscale.runtime.training.deepspeed_engine import _Routed
from tests.engine.conftest import BATCH, make_batch

BACKBONES = {"norm by groups": Small3dConfig(width=4), "batch norm": TsmR18Config(width=16)}


class _Engine(nn.Module):
    """What `_Routed` asks of DeepSpeed's."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)


def model_of(backbone: BackboneSettings) -> ModelConfig:
    head = ActionFormerConfig(dim=8, levels=2, heads=2, min_positives=1)
    return ModelConfig(backbone=backbone, dim=8, head=head)


def taught(model: ModelConfig) -> WindowBatch:
    """A batch with what an untrained motion teacher says of it.

    Pictures of 32 pixels: with last maps of one place, oneDNN reads memory that nobody wrote for a weight's gradient in
    bfloat16 (a 3 x 3 convolution of stride 2 over 1 x 1, torch 2.13: 10 of 150 were not finite).
    """
    torch.manual_seed(3)
    batch = make_batch(0)
    teacher = Detector(model, in_channels=2, num_classes=2).eval()
    with torch.no_grad():
        said = teacher(torch.rand(2, 2, 16, 16, 16) * 2 - 1, batch.mask)
    assert batch.frames is not None
    frames = batch.frames.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return dataclasses.replace(batch, frames=frames, teacher=said)


def network_of(mode: Mode, model: ModelConfig) -> nn.Module:
    torch.manual_seed(0)
    if mode == "decomposed":
        return Student(model, num_classes=2)
    return Detector(model, in_channels=3, num_classes=2)


@pytest.mark.parametrize("balance", ["fixed", "share"])
@pytest.mark.parametrize("mode", ["baseline", "conventional", "decomposed"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_mode_learns_and_measures_as_in_float32(backbone: str, mode: Mode, balance: Any) -> None:
    model = model_of(BACKBONES[backbone])
    batch, network = taught(model), network_of(mode, model)
    student = StudentConfig(distill=DistillConfig(balance=balance))
    step = step_function(mode, Lesson(objective=build_objective(model.head, 2), student=student, global_batch=BATCH))
    exact = step(network, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = step(_Routed(_Engine(network)), batch)
    for loss in (exact["loss"], parts["loss"]):  # some measures are taken on the way back
        network.zero_grad()
        loss.backward()
    assert ("split_truth" in parts) == (mode != "baseline")
    assert parts.keys() == exact.keys()
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.1, atol=0.05)
    gradients = [value.grad for value in network.parameters() if value.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
