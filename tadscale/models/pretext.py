"""The pretext: an RGB backbone that predicts, without any label, its clip's own motion and colour.

The relative in the literature is ActionFlowNet (Ng et al., WACV 2018), which learns flow beside the labels. Why colour, too:
a backbone that learned flow alone has no colour left to tell actions apart by, and learns it late (sprites, one seed: 49
average mAP in place of 81).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.backbones.base import BACKBONE, BackboneSettings
from tadscale.models.detector import as_input

COLOUR_CHANNELS = 3


class PretextOutput(NamedTuple):
    """Predicted maps on the grid of those that they were read from."""

    motion: Tensor
    """`[B, C, L, h, w]`"""
    colour: Tensor
    """`[B, 3, L, h, w]` luma and two chroma differences."""


class Reading(nn.Module):
    """A linear reading of motion and of colour at every place of some maps."""

    def __init__(self, channels: int, motion_channels: int) -> None:
        super().__init__()
        self.motion = nn.Conv3d(channels, motion_channels, 1)
        self.colour = nn.Conv3d(channels, COLOUR_CHANNELS, 1)

    def forward(self, maps: Tensor) -> PretextOutput:
        """`[B, C, L, h, w]` to predictions on the same grid."""
        return PretextOutput(self.motion(maps), self.colour(maps))


class PretextNetwork(nn.Module):
    """A backbone, and a reading of every stage that it has (`Backbone.stages`).

    Why of every stage: a deep narrow network that is read at its end alone finds no motion in hundreds of steps
    (docs/results.md); so each stage is taught directly, as in Deeply-Supervised Nets (Lee et al., AISTATS 2015).

    The readings serve training only: what is kept is the backbone.
    """

    def __init__(self, settings: BackboneSettings, *, motion_channels: int, with_readings: bool = True) -> None:
        super().__init__()
        self.backbone = settings.build(3)
        if with_readings:
            channels = self.backbone.stage_channels
            self.readings = nn.ModuleList([Reading(each, motion_channels) for each in channels])

    def forward(self, video: Tensor, mask: Tensor) -> list[PretextOutput]:
        """Pictures `[B, T, H, W, 3]` uint8 to predictions, the last maps' last; the mask `[B, T]` is the losses'."""
        stages = self.backbone.stages(as_input(self.backbone, video))  # each [B, C, L, h, w]
        return [reading(maps) for reading, maps in zip(self.readings, stages, strict=True)]


def backbone_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A trained pretext network's tensors without its readings: what is kept as a start."""
    return {name: value for name, value in state.items() if name.startswith(BACKBONE)}


def luma_and_chroma(pictures: Tensor) -> Tensor:
    """Pictures `[B, T, H, W, 3]` uint8 to luma (BT.601), blue and red difference, `[B, 3, T, H, W]` in [-1, 1].

    Apart, so that each can be given the same weight: in plain RGB error luma is nearly all, and a backbone that learned it
    could not learn colour afterwards.
    """
    red, green, blue = (pictures.to(torch.float32) / 255.0).unbind(4)  # [B, T, H, W]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([luma, blue - luma, red - luma], dim=1)


def on_grid(fields: Tensor, maps: Tensor) -> Tensor:
    """Fields `[B, C, T, H, W]` averaged over the cells of the maps' grid, `[B, C, L, h, w]`."""
    steps, rows, columns = maps.shape[2:]
    return F.adaptive_avg_pool3d(fields, (steps, rows, columns))
