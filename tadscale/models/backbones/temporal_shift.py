"""Temporal shift: 2-D networks that exchange channels between neighbouring frames.

Lin, Gan, Han, TSM: Temporal Shift Module, ICCV 2019, Section 4: one eighth of the channels each way.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tadscale.models.backbones.base import BackboneSettings

SHIFTED_SHARE = 8  # one channel in eight comes from the next frame, one in eight from the one before
Neighbour = Literal["next", "previous"]


class ShiftedSettings(BackboneSettings):
    """Base of the settings of networks with temporal shift."""

    shift_first: Neighbour = "next"
    """Which neighbour the first eighth of the channels comes from. `next` is TSM's own, and what published weights want:
    with the other they see every clip played backwards. `previous` is what networks had that this project trained up to
    November 2026, and is filled in where one of those is read."""


def temporal_shift(x: Tensor, frames: int, first: Neighbour = "next") -> Tensor:
    """Take an eighth of the channels from the next frame and an eighth from the one before; zeros enter at the ends.

    Args:
        x: `[B * T, C, H, W]`, the frames of each clip adjacent.
        frames: T.
        first: which neighbour the first eighth is taken from; the second is from the other.
    """
    clip = x.unflatten(0, (-1, frames))  # [B, T, C, H, W]
    fold = x.shape[1] // SHIFTED_SHARE
    one, other = (_of_next, _of_previous) if first == "next" else (_of_previous, _of_next)
    parts = [one(clip[:, :, :fold]), other(clip[:, :, fold : 2 * fold]), clip[:, :, 2 * fold :]]
    return torch.cat(parts, dim=2).flatten(0, 1)


def _of_next(clip: Tensor) -> Tensor:
    return F.pad(clip[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))


def _of_previous(clip: Tensor) -> Tensor:
    return F.pad(clip[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
