"""Motion as pictures, eight bits a component: red is u, green is v. Pure numpy: fetching processes go without torch.

The way in which the field has kept optical flow since two-stream networks (Simonyan and Zisserman, NIPS 2014, section 5:
flow rescaled to [0, 255] and compressed as pictures). A step is clip_px / 127: at 224 px and a bound of 20 px, .16 px.
"""

import numpy as np
from numpy.typing import NDArray

ZERO, STEPS = (
    128,
    127,
)  # codes 1 to 255 are -1 to 1: as many below zero as above, so that a mirrored field has a code, too


def motion_pictures(motion: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Flow `[2, T, H, W]` in [-1, 1] to pictures `[T, H, W, 3]`; blue, which nothing reads, is at zero."""
    codes = _rounded(motion * STEPS)  # [2, T, H, W]
    return np.stack([*codes, np.full_like(codes[0], ZERO)], axis=-1)


def changed_view(pictures: NDArray[np.uint8], *, zoom: float, flip: bool) -> NDArray[np.uint8]:
    """What pictures `[T, H, W, 3]`, cropped and flipped already, say of the motion in the new view.

    What is enlarged by `zoom` moves by as much more; mirrored, u changes its sign.
    """
    moved = (pictures[..., :2].astype(np.float32) - ZERO) * zoom  # [T, H, W, 2]
    if flip:
        moved[..., 0] *= -1
    return np.concatenate([_rounded(moved), pictures[..., 2:]], axis=-1)


def _rounded(steps: NDArray[np.floating]) -> NDArray[np.uint8]:
    return (np.rint(steps).clip(-STEPS, STEPS) + ZERO).astype(np.uint8)
