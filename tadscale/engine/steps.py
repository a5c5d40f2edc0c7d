"""One step function a training mode: batch in, loss parts out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from tadscale.config import Config
from tadscale.engine.batch import WindowBatch
from tadscale.losses.feature import feature_distance
from tadscale.models.backbones.base import Backbone
from tadscale.models.detector import DetectorOutput
from tadscale.models.heads.objective import Objective
from tadscale.models.student import StudentOutput
from tadscale.network import Mode

StepFunction = Callable[[nn.Module, WindowBatch], dict[str, Tensor]]
"""A mode's step: the parts of the loss as scalars, their weighted sum under `loss`."""


class DistillConfig(Config):
    """Weights of the distillation terms."""

    feature_weight: float = 8.0
    """Weight of the distance between student and teacher features. The paper's is not published; by ablation on sprites: at
    1 a backbone that starts from nothing may not learn to see motion within 600 steps, from 4 to 32 it always did."""
    prediction_weight: float = 1.0
    """Weight of imitating the teacher's detector output."""


class StudentConfig(Config):
    """How the student is trained."""

    mode: Literal["decomposed", "conventional"] = "decomposed"
    """`decomposed`: the paper's dual-branch student. `conventional`: one feature and one detector under both ground
    truth and teacher, for comparison."""
    distill: DistillConfig = DistillConfig()
    """How much the teacher's feature and detections weigh beside ground truth."""


@dataclass(frozen=True)
class Lesson:
    """What a step learns by."""

    objective: Objective
    """The head's."""
    distill: DistillConfig
    """Where there is a teacher."""


def step_function(mode: Mode, objective: Objective, distill: DistillConfig) -> StepFunction:
    """The step of a training mode."""
    return partial(_STEPS[mode], Lesson(objective, distill))


def teacher_step(lesson: Lesson, model: nn.Module, batch: WindowBatch) -> dict[str, Tensor]:
    """Motion detector, ground truth."""
    return _plain(lesson, model, batch, batch.motion_fields)


def baseline_step(lesson: Lesson, model: nn.Module, batch: WindowBatch) -> dict[str, Tensor]:
    """RGB detector, ground truth."""
    return _plain(lesson, model, batch, batch.frames)


def conventional_step(lesson: Lesson, model: nn.Module, batch: WindowBatch) -> dict[str, Tensor]:
    """RGB detector, ground truth and the teacher's feature and outputs in one place (Lee et al. 2023, Fig. 1a)."""
    output: DetectorOutput = model(batch.frames, batch.mask)
    truth = {"truth": lesson.objective.loss(output.predictions, batch.targets)}
    return _distilled(lesson, model, batch, truth, imitation=output)


def decomposed_step(lesson: Lesson, model: nn.Module, batch: WindowBatch) -> dict[str, Tensor]:
    """Decomposed student (Lee et al. 2023, Fig. 3a): appearance and joint learn from ground truth, motion from the teacher.

    No ground truth reaches the motion branch's detector output, no distillation the appearance branch.
    """
    output: StudentOutput = model(batch.frames, batch.mask)
    truth = {
        "joint": lesson.objective.loss(output.joint_predictions, batch.targets),
        "appearance": lesson.objective.loss(output.appearance_predictions, batch.targets),
    }
    imitation = DetectorOutput(output.motion_feature, output.motion_predictions)
    return _distilled(lesson, model, batch, truth, imitation)


_STEPS: dict[Mode, Callable[[Lesson, nn.Module, WindowBatch], dict[str, Tensor]]] = {
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


def _plain(lesson: Lesson, model: nn.Module, batch: WindowBatch, video: Tensor | None) -> dict[str, Tensor]:
    output: DetectorOutput = model(video, batch.mask)
    truth = lesson.objective.loss(output.predictions, batch.targets)
    return {"loss": mean_over_slots(truth, batch.valid & batch.labelled)}


def _distilled(
    lesson: Lesson, model: nn.Module, batch: WindowBatch, truth: dict[str, Tensor], imitation: DetectorOutput
) -> dict[str, Tensor]:
    """Ground truth's terms, and the distance of a feature and its predictions from the teacher's; all `[B]` before."""
    assert batch.teacher is not None
    steps = cast(Backbone, model.get_submodule("backbone")).steps(batch.mask)
    feature = feature_distance(imitation.feature, batch.teacher.feature, steps)
    prediction = lesson.objective.imitate(imitation.predictions, batch.teacher.predictions)
    parts = {name: mean_over_slots(value, batch.valid & batch.labelled) for name, value in truth.items()}
    loss = torch.stack(list(parts.values())).sum()
    parts["feature"] = mean_over_slots(feature, batch.valid)
    parts["prediction"] = mean_over_slots(prediction, batch.valid)
    weights = lesson.distill
    total = loss + weights.feature_weight * parts["feature"] + weights.prediction_weight * parts["prediction"]
    return {"loss": total, **parts}
