"""A batch of windows, as the training loop sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tadscale.models.heads.base import Predictions, Targets

TEACHER_PREFIX = "teacher/"


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """One rank's share of a global batch.

    Attributes:
        positions: `[B]` int64, the slots of the plan that these windows fill: `step * global_batch + slot`.
        valid: `[B]` bool, False for empty slots and for quarantined windows: they weigh nothing in any loss.
        mask: `[B, T]` bool, which sampled frames exist (a short video leaves the window's end empty).
        targets: ground truth.
        frames: `[B, T, H, W, 3]` uint8 RGB, or None where only motion is trained on.
        motion: `[B, C, T, H, W]` in [-1, 1], or None where the trained network does not read it.
        teacher: what the frozen teacher made of the window's motion: `feature` `[B, D, L]` and its predictions.
    """

    positions: Tensor
    valid: Tensor
    mask: Tensor
    targets: Targets
    frames: Tensor | None = None
    motion: Tensor | None = None
    teacher: Predictions = field(default_factory=dict)

    @classmethod
    def from_numpy(cls, columns: Mapping[str, NDArray], device: str = "cpu") -> "WindowBatch":
        """Build a batch from stacked columns, as the pipeline delivers them.

        Columns: `position`, `valid`, `mask`, `segments_frames`, `labels`, and where there are any `frames`, `motion`
        and `teacher/<name>`.
        """

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(columns[name])).to(device)

        return cls(
            positions=tensor("position"),
            valid=tensor("valid"),
            mask=tensor("mask"),
            targets=Targets(segments_frames=tensor("segments_frames"), labels=tensor("labels")),
            frames=tensor("frames") if "frames" in columns else None,
            motion=tensor("motion").float() if "motion" in columns else None,
            teacher={
                name.removeprefix(TEACHER_PREFIX): tensor(name).float()
                if columns[name].dtype.kind == "f"
                else tensor(name)
                for name in columns
                if name.startswith(TEACHER_PREFIX)
            },
        )
