"""Augmentation of a window, drawn before motion is computed, so that both modalities see the same pixels."""

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from tadscale.config import Config


class AugmentDraw(NamedTuple):
    """What happens to one window."""

    crop_area: float
    """Share of the picture that is kept, in (0, 1]; both sides shrink alike."""
    crop_y: float
    """Where the crop sits: 0 at the top, 1 at the bottom."""
    crop_x: float
    """0 at the left, 1 at the right."""
    flip: bool
    """Whether left and right are exchanged."""
    shift: float = 0.0
    """How much later the window begins, in strides of windows; earlier below 0. See `tadscale.data.windows.drawn_start`."""


NO_AUGMENT = AugmentDraw(1.0, 0.0, 0.0, False)


class Augment(Config):
    """How windows are varied in training."""

    crop_area_min: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A random crop keeps a share of the picture between this and all of it. 1: no crop."""
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How often left and right are exchanged. Leave at 0 where labels tell them apart: flipped, "left" looks right."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """A window begins up to this share of `stride_frames` before or after its place, drawn each time; it never leaves its
    video. At 0.5 windows may begin anywhere. 0: always in the same places. Features can be shifted, too. Published training
    cuts videos anew each epoch."""

    @property
    def changes_pictures(self) -> bool:
        """Whether it does what can only be done to pictures."""
        return self.crop_area_min < 1 or self.flip_probability > 0

    @property
    def varies(self) -> bool:
        """Whether a window may look different from one epoch to the next."""
        return self.changes_pictures or self.shift > 0

    def draw(self, draw_seed: int) -> AugmentDraw:
        """The augmentation of one window: a pure function of the seed (`tadscale.data.plan.draw_seed`).

        Uses the generator's raw words, whose stream numpy keeps from version to version.
        """
        words = np.random.Philox(draw_seed).random_raw(5)
        area, y, x, flip, shift = ((words >> np.uint64(11)) * 2.0**-53).tolist()  # uniform in [0, 1)
        crop_area = 1.0 - area * (1.0 - self.crop_area_min)
        return AugmentDraw(crop_area, y, x, flip < self.flip_probability, (2.0 * shift - 1.0) * self.shift)
