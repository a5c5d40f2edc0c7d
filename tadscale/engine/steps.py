"""One step function a training mode: batch in, loss parts out."""

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from tadscale.config import Config
from tadscale.engine.batch import WindowBatch
from tadscale.losses.feature import feature_distance
from tadscale.models.backbones.base import Backbone
from tadscale.models.detector import DetectorOutput, feature_mask, rgb_input
from tadscale.models.heads.base import Head
from tadscale.models.student import StudentOutput

Mode = Literal["teacher", "baseline", "conventional", "decomposed"]


class DistillConfig(Config):
    """Weights of the distillation terms."""

    feature_weight: float = 8.0
    """Weight of the distance between student and teacher features. The paper's is not published; by ablation on sprites: at
    1 a backbone that starts from nothing may not learn to see motion within 600 steps, from 4 to 32 it always did."""
    prediction_weight: float = 1.0
    """Weight of imitating the teacher's detector output."""


StepFunction = Callable[[nn.Module, WindowBatch, DistillConfig], dict[str, Tensor]]


def teacher_step(model: nn.Module, batch: WindowBatch, settings: DistillConfig) -> dict[str, Tensor]:
    """Motion detector, ground truth."""
    assert batch.motion is not None
    output: DetectorOutput = model(batch.motion, batch.mask)
    return {"loss": mean_over_slots(_head(model).loss(output.predictions, batch.targets), batch.valid)}


def baseline_step(model: nn.Module, batch: WindowBatch, settings: DistillConfig) -> dict[str, Tensor]:
    """RGB detector, ground truth."""
    output: DetectorOutput = model(_rgb(batch), batch.mask)
    return {"loss": mean_over_slots(_head(model).loss(output.predictions, batch.targets), batch.valid)}


def conventional_step(model: nn.Module, batch: WindowBatch, settings: DistillConfig) -> dict[str, Tensor]:
    """RGB detector, ground truth and the teacher's feature and outputs in one place (Lee et al. 2023, Fig. 1a)."""
    output: DetectorOutput = model(_rgb(batch), batch.mask)
    head = _head(model)
    return _weighted(
        settings,
        batch,
        truth={"truth": head.loss(output.predictions, batch.targets)},
        feature=_feature(model, output.feature, batch),
        prediction=head.imitate(output.predictions, batch.teacher),
    )


def decomposed_step(model: nn.Module, batch: WindowBatch, settings: DistillConfig) -> dict[str, Tensor]:
    """Decomposed student (Lee et al. 2023, Fig. 3a): appearance and joint learn from ground truth, motion from the teacher.

    No ground truth reaches the motion branch's detector output, no distillation the appearance branch.
    """
    output: StudentOutput = model(_rgb(batch), batch.mask)
    joint, branch = _head(model), _head(model, "branch_head")
    return _weighted(
        settings,
        batch,
        truth={
            "joint": joint.loss(output.joint, batch.targets),
            "appearance": branch.loss(output.appearance, batch.targets),
        },
        feature=_feature(model, output.motion_feature, batch),
        prediction=branch.imitate(output.motion, batch.teacher),
    )


STEPS: dict[Mode, StepFunction] = {
    "teacher": teacher_step,
    "baseline": baseline_step,
    "conventional": conventional_step,
    "decomposed": decomposed_step,
}


def mean_over_slots(per_window: Tensor, valid: Tensor) -> Tensor:
    """Mean of `[B]` over all slots of the batch, empty and quarantined ones counting as zero.

    Dividing by the slots and not by the valid windows keeps the average over ranks equal to the average over the global
    batch, wherever the invalid slots fall.
    """
    return per_window.masked_fill(~valid, 0.0).mean()


def _weighted(
    settings: DistillConfig, batch: WindowBatch, *, truth: dict[str, Tensor], feature: Tensor, prediction: Tensor
) -> dict[str, Tensor]:
    parts = {name: mean_over_slots(value, batch.valid) for name, value in truth.items()}
    loss = torch.stack(list(parts.values())).sum()
    parts["feature"] = mean_over_slots(feature, batch.valid)
    parts["prediction"] = mean_over_slots(prediction, batch.valid)
    total = loss + settings.feature_weight * parts["feature"] + settings.prediction_weight * parts["prediction"]
    return {"loss": total, **parts}


def _feature(model: nn.Module, student: Tensor, batch: WindowBatch) -> Tensor:
    backbone = cast(Backbone, model.get_submodule("backbone"))
    return feature_distance(student, batch.teacher["feature"], feature_mask(batch.mask, backbone.stride))


def _rgb(batch: WindowBatch) -> Tensor:
    assert batch.frames is not None
    return rgb_input(batch.frames)


def _head(model: nn.Module, name: str = "head") -> Head:
    return cast(Head, model.get_submodule(name))
