"""One step function a training mode: batch in, loss parts out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from tadscale.config import Config
from tadscale.engine.balance import (
    MEASURE_EVERY_STEPS,
    SharedSplit,
    describe_split,
    share_factor,
    split_gradients,
)
from tadscale.engine.batch import WindowBatch
from tadscale.losses.feature import feature_distance
from tadscale.models.backbones.base import Backbone
from tadscale.models.detector import DetectorOutput
from tadscale.models.heads.objective import Objective
from tadscale.models.student import StudentOutput
from tadscale.network import Mode

StepFunction = Callable[[nn.Module, WindowBatch], dict[str, Tensor]]
"""A mode's step: the parts of the loss as scalars, their weighted sum under `loss`; what is only measured beside them."""

APPEARANCE_TEACHER = "appearance_teacher"
"""What the names of the appearance teacher's parts of the loss begin with."""


class DistillConfig(Config):
    """How much the teacher weighs beside ground truth."""

    feature_weight: NonNegativeFloat = 4.0
    """Weight of the distance between student and teacher features; the paper's is not published."""
    prediction_weight: NonNegativeFloat = 1.0
    """Weight of imitating the teacher's detector output."""
    balance: Literal["fixed", "share"] = "share"
    """`share`: on its way into the backbone, distillation's gradient is scaled to `share` times ground truth's each step.
    `fixed`: the weights are all; at a feature weight of 4 one seed of three lost the colour for good, at 8 the one that was
    tried (sprites, a start that knew it)."""
    share: PositiveFloat = 1.0
    """See `balance`. At 2 motion is learned somewhat faster, and more heads and seeds forget the appearance that the
    backbone knew (docs/results.md)."""
    backbone_delay: float | None = Field(default=None, ge=0, lt=1)
    """Part of the training, from its begin, in which the teacher does not reach the backbone: the motion branch and the
    heads learn from it already, the backbone from ground truth alone. A conventional student is not distilled in it. What a
    start knows is put to use before motion comes: whichever comes first is apt to push the other out (docs/results.md). By
    default a third where the RGB backbone starts from a network that was trained here, as by `pretrain`, and 0, as in the
    paper, where it starts from nothing or from published weights: it has all of motion to learn, and with a delay a student
    from ImageNet's was 20 points worse."""


DELAY = 0.33
"""Where a start knows motion beside appearance: docs/results.md, "What decides"."""


class AppearanceTeacherConfig(Config):
    """A frozen RGB detector that teaches the appearance branch (ours, not the paper's)."""

    url: str | None = None
    """A trained RGB detector's weights (`RUN/baseline/weights`, a path or URL) or a registered one (`models:/NAME@alias`),
    perhaps one of a larger backbone. By default the run's own baseline, which is trained before the student."""
    feature_weight: NonNegativeFloat = 4.0
    """Weight of the distance between its feature and the appearance branch's; that of the motion teacher's by default."""
    prediction_weight: NonNegativeFloat = 1.0
    """Weight of imitating its detections in the appearance branch."""


class StudentConfig(Config):
    """How the student is trained."""

    mode: Literal["decomposed", "conventional"] = "decomposed"
    """`decomposed`: the paper's dual-branch student. `conventional`: one feature and one detector under both ground
    truth and teacher, for comparison."""
    distill: DistillConfig = DistillConfig()
    """How much the teacher's feature and detections weigh beside ground truth."""
    motion_truth_weight: NonNegativeFloat = 0.0
    """Weight of ground truth on the motion branch's detections; the paper's decomposition gives it none. It counts on the
    side of ground truth: neither `balance: share` nor the delay changes what it sends into the backbone."""
    appearance_distill_weight: NonNegativeFloat = 0.0
    """Weight of imitating the teacher's detections in the appearance branch; none in the paper's decomposition. For
    `balance: share`, which holds the motion branch to what everything else sends, it counts on the side of ground truth."""
    appearance_teacher: AppearanceTeacherConfig | None = None
    """A second teacher, for the appearance branch of the decomposed student; none in the paper. `{}` for the defaults."""


def delayed(student: StudentConfig, *, knows_motion: bool) -> StudentConfig:
    """The settings with `backbone_delay` as it is by default, unless the job says it.

    Args:
        student: as the job has it.
        knows_motion: whether its backbone's start does, beside appearance.
    """
    if student.distill.backbone_delay is not None:
        return student
    distill = student.distill.model_copy(update={"backbone_delay": DELAY if knows_motion else 0.0})
    return student.model_copy(update={"distill": distill})


class Balance(NamedTuple):
    """What is done in a step where ground truth and distillation part."""

    share: float | None
    """What distillation's gradient into the backbone is held to, as a multiple of ground truth's; None where it goes in as
    it is."""
    measured: bool
    """Whether the gradients are looked at there: the same on all ranks."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a step learns by."""

    objective: Objective
    """The head's."""
    student: StudentConfig
    """Where there is a teacher; its delay is known (`delayed`), or there is none."""
    global_batch: int
    """Windows of a step over all ranks: positions of the plan over it are steps."""
    labelled_share: float = 1.0
    """Share of the plan's slots that have ground truth (`Plan.labelled_share`): its terms are means over those, so that
    windows without it take no weight from them."""
    total_steps: int = 0
    """Of the plan: what `backbone_delay` is a part of; 0 where it has no end, and no delay."""

    def balance(self, batch: WindowBatch) -> Balance:
        """That of this step. To be asked before the forward pass: the step is read from the batch, and a GPU that has work
        queued is waited for."""
        distill = self.student.distill
        if self.total_steps and distill.backbone_delay is None:
            raise ValueError("backbone_delay is open: settle it by `delayed`, for this start, before the training")
        step = int(batch.positions[0]) // self.global_batch
        share = distill.share if distill.balance == "share" else None
        if step < (distill.backbone_delay or 0.0) * self.total_steps:
            share = 0.0
        return Balance(share, share is not None or step % MEASURE_EVERY_STEPS == 0)


def step_function(mode: Mode, lesson: Lesson) -> StepFunction:
    """The step of a detector's training mode."""
    return partial(_STEPS[mode], lesson)


def teacher_step(lesson: Lesson, model: nn.Module, batch: WindowBatch) -> dict[str, Tensor]:
    """Motion detector, ground truth."""
    return _plain(lesson, model, batch, batch.motion_fields)


def baseline_step(lesson: Lesson, model: nn.Module, batch: WindowBatch) -> dict[str, Tensor]:
    """RGB detector, ground truth."""
    return _plain(lesson, model, batch, batch.frames)


def conventional_step(lesson: Lesson, model: nn.Module, batch: WindowBatch) -> dict[str, Tensor]:
    """RGB detector, ground truth and the teacher's feature and outputs in one place (Lee et al. 2023, Fig. 1a)."""
    balance = lesson.balance(batch)
    output: DetectorOutput = model(batch.frames, batch.mask)
    truth = {"truth": _truth(lesson, output.predictions, batch)}
    taught = _imitation(lesson, model, batch, output, batch.teacher)
    return _balanced(lesson, model, balance, output.feature, truth, taught)


def decomposed_step(lesson: Lesson, model: nn.Module, batch: WindowBatch) -> dict[str, Tensor]:
    """Decomposed student (Lee et al. 2023, Fig. 3a): appearance and joint learn from ground truth, motion from the teacher.

    No ground truth reaches the motion branch's detector output, no distillation the appearance branch (unless the settings
    ask for it: to compare, or for an appearance teacher).
    """
    balance, student = lesson.balance(batch), lesson.student
    split = None if balance.share is None else SharedSplit(balance.share)
    output: StudentOutput = model(
        batch.frames, batch.mask, split, student.appearance_teacher is not None, student.motion_truth_weight > 0
    )
    truth = {
        "joint": _truth(lesson, output.joint_predictions, batch),
        "appearance": _truth(lesson, output.appearance_predictions, batch),
    }
    if output.told_motion is not None:
        truth["motion_truth"] = student.motion_truth_weight * _truth(lesson, output.told_motion, batch)
    of_motion = DetectorOutput(output.motion_feature, output.motion_predictions)
    taught = _imitation(lesson, model, batch, of_motion, batch.teacher)
    if weight := student.appearance_distill_weight:
        taught["appearance_prediction"] = weight * _imitated(
            lesson, output.appearance_predictions, batch, batch.teacher
        )
    if output.taught_appearance is not None:
        of_appearance = _imitation(lesson, model, batch, output.taught_appearance, batch.appearance_teacher)
        taught |= {f"{APPEARANCE_TEACHER}_{name}": part for name, part in of_appearance.items()}
    if split is None:
        return _balanced(lesson, model, balance, output.features, truth, taught)
    return {"loss": _total([*truth.values(), *_weighted(lesson, taught)]), **truth, **taught, **split.measured}


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

    Raises:
        TypeError: it is not one value a window; a mean over the batch would depend on how the batch is spread over ranks.
    """
    if per_window.shape != valid.shape:
        raise TypeError(
            f"a loss has the shape {list(per_window.shape)} where each of {len(valid)} windows should have one value: the "
            "objective of a head returns [B], and means over windows are taken here"
        )
    return per_window.masked_fill(~valid, 0.0).mean()


def _truth(lesson: Lesson, predictions: dict[str, Tensor], batch: WindowBatch) -> Tensor:
    losses = lesson.objective.loss(predictions, batch.targets)  # [B]
    return mean_over_slots(losses, batch.valid & batch.labelled) / lesson.labelled_share


def _imitated(
    lesson: Lesson, predictions: dict[str, Tensor], batch: WindowBatch, teacher: DetectorOutput | None
) -> Tensor:
    assert teacher is not None
    return mean_over_slots(lesson.objective.imitate(predictions, teacher.predictions), batch.valid)


def _plain(lesson: Lesson, model: nn.Module, batch: WindowBatch, video: Tensor | None) -> dict[str, Tensor]:
    output: DetectorOutput = model(video, batch.mask)
    return {"loss": _truth(lesson, output.predictions, batch)}


def _imitation(
    lesson: Lesson, model: nn.Module, batch: WindowBatch, output: DetectorOutput, teacher: DetectorOutput | None
) -> dict[str, Tensor]:
    """The distance of a feature and its predictions from a teacher's."""
    assert teacher is not None
    steps = cast(Backbone, model.get_submodule("backbone")).steps(batch.mask)
    feature = feature_distance(output.feature, teacher.feature, steps)  # [B]
    return {
        "feature": mean_over_slots(feature, batch.valid),
        "prediction": _imitated(lesson, output.predictions, batch, teacher),
    }


def _balanced(
    lesson: Lesson,
    model: nn.Module,
    balance: Balance,
    split: Tensor,
    truth: dict[str, Tensor],
    taught: dict[str, Tensor],
) -> dict[str, Tensor]:
    """The parts and their sum; what the two send into the split `[B, C, L]`, measured, and balanced where that is asked for.

    Both signals reach one feature through one head, so that the teacher's terms themselves are scaled.
    """
    of_truth, of_teacher = _total(list(truth.values())), _weighted(lesson, taught)
    measured: dict[str, Tensor] = {}
    if balance.measured and split.requires_grad:
        gradients = split_gradients(model, split, of_truth, _total(of_teacher))
        measured = describe_split(*gradients)
        if balance.share is not None:
            factor = share_factor(*gradients, balance.share)
            of_teacher = [factor * part for part in of_teacher]
    return {"loss": _total([of_truth, *of_teacher]), **truth, **taught, **measured}


def _weighted(lesson: Lesson, taught: dict[str, Tensor]) -> list[Tensor]:
    distill, appearance = lesson.student.distill, lesson.student.appearance_teacher
    weights = {"feature": distill.feature_weight, "prediction": distill.prediction_weight}
    if appearance is not None:
        weights[f"{APPEARANCE_TEACHER}_feature"] = appearance.feature_weight
        weights[f"{APPEARANCE_TEACHER}_prediction"] = appearance.prediction_weight
    return [weights.get(name, 1.0) * part for name, part in taught.items()]


def _total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum()
