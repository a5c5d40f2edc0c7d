"""What was made of every frame, averaged to the rate of the features."""

import torch.nn.functional as F
from torch import Tensor


def middle_frame(stride: int) -> float:
    """Of as many frames, counted from the first: what a step that averages them is of."""
    return (stride - 1) / 2


def pool_time(maps: Tensor, stride: int) -> Tensor:
    """Maps of single frames `[B, T, C, h, w]` averaged over `stride` frames, `[B, C, ceil(T / stride), h, w]`."""
    rows = maps.permute(0, 2, 3, 4, 1).flatten(1, 3)  # [B, C * h * w, T]
    pooled = F.avg_pool1d(rows, stride, ceil_mode=True).unflatten(1, maps.shape[2:])
    return pooled.permute(0, 1, 4, 2, 3)
