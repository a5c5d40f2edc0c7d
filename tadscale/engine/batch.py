"""A batch of windows, as the training loop sees it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tadscale.models.detector import DetectorOutput
from tadscale.models.heads.objective import Targets

TEACHER_FEATURE = "teacher/feature"
TEACHER_PREDICTIONS = "teacher/predictions/"


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """One rank's share of a global batch.

    Attributes:
        positions: `[B]` int64, the slots of the plan that these windows fill: `step * global_batch + slot`.
        valid: `[B]` bool, False for empty slots and for quarantined windows: they weigh nothing in any loss.
        labelled: `[B]` bool, False for windows without ground truth: they weigh nothing where ground truth is learned.
        mask: `[B, T]` bool, which sampled frames exist (a short video leaves the window's end empty).
        targets: ground truth.
        frames: `[B, T, H, W, 3]` uint8 RGB, features `[B, T, C]`, or None where only motion is trained on.
        motion_fields: `[B, C, T, H, W]` in [-1, 1], flow features `[B, C, T, 1, 1]`, or None where the trained network does
            not read them.
        teacher: what the frozen teacher made of the window's motion, or None where nothing is distilled.
        appearance_teacher: what the frozen appearance teacher made of its frames, or None where there is none.
    """

    positions: Tensor
    valid: Tensor
    labelled: Tensor
    mask: Tensor
    targets: Targets
    frames: Tensor | None = None
    motion_fields: Tensor | None = None
    teacher: DetectorOutput | None = None
    appearance_teacher: DetectorOutput | None = None

    @classmethod
    def from_numpy(cls, columns: Mapping[str, NDArray], device: str = "cpu") -> "WindowBatch":
        """Build a batch from stacked columns, as the pipeline delivers them.

        Columns: `position`, `valid`, `labelled`, `mask`, `segments_frames`, `labels`, and where there are any `frames`,
        `motion_fields`, and the teacher's as `teacher_columns` names them.
        """
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)).to(device) for name, value in columns.items()}
        motion_fields = tensors.get("motion_fields")
        return cls(
            positions=tensors["position"],
            valid=tensors["valid"],
            labelled=tensors["labelled"],
            mask=tensors["mask"],
            targets=Targets(segments_frames=tensors["segments_frames"], labels=tensors["labels"]),
            frames=tensors.get("frames"),
            motion_fields=None if motion_fields is None else motion_fields.float(),
            teacher=_teacher(tensors),
        )


def teacher_columns(output: DetectorOutput) -> dict[str, Tensor]:
    """A teacher's feature and predictions under the names of their columns."""
    return {TEACHER_FEATURE: output.feature} | {
        f"{TEACHER_PREDICTIONS}{name}": value for name, value in output.predictions.items()
    }


def _teacher(columns: Mapping[str, Tensor]) -> DetectorOutput | None:
    if TEACHER_FEATURE not in columns:
        return None
    predictions = {
        name.removeprefix(TEACHER_PREDICTIONS): value.float() if value.is_floating_point() else value
        for name, value in columns.items()
        if name.startswith(TEACHER_PREDICTIONS)
    }
    return DetectorOutput(columns[TEACHER_FEATURE].float(), predictions)
