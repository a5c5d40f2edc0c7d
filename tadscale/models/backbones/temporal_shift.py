"""Temporal shift: 2-D networks that exchange channels between neighbouring frames.

Lin, Gan, Han, TSM: Temporal Shift Module, ICCV 2019, Section 4: one eighth of the channels each way.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFTED_SHARE = 8  # one channel in eight moves forward in time, one in eight backward


def temporal_shift(x: Tensor, frames: int) -> Tensor:
    """Shift an eighth of the channels one frame on, an eighth one frame back; zeros enter at the ends.

    Args:
        x: `[B * T, C, H, W]`, the frames of each clip adjacent.
        frames: T.
    """
    clip = x.unflatten(0, (-1, frames))  # [B, T, C, H, W]
    fold = x.shape[1] // SHIFTED_SHARE
    later = F.pad(clip[:, :-1, :fold], (0, 0, 0, 0, 0, 0, 1, 0))
    earlier = F.pad(clip[:, 1:, fold : 2 * fold], (0, 0, 0, 0, 0, 0, 0, 1))
    return torch.cat([later, earlier, clip[:, :, 2 * fold :]], dim=2).flatten(0, 1)
