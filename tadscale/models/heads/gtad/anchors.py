"""The map of anchors (Xu et al., CVPR 2020, sec. "Sub-Graph Alignment and Localization"): every start, and durations up to
a limit. What lies past the window's valid steps does not exist."""

import math

import torch
from torch import Tensor


def spaced_durations(longest: int, overlap: float) -> list[int]:
    """Durations in steps, ascending from 1, of which each has a tIoU of at least `overlap` with the next where whole
    steps allow it: 1, 2, .. 12, 14, 16, 18, 21, 24 .. for 0.85. With 1, every duration, as published.

    The extent of an action is known the less exactly the longer it is, so half the durations are as good, and the map
    grows with the logarithm of the longest (our choice).
    """
    durations = [1]
    while (following := max(durations[-1] + 1, math.floor(durations[-1] / overlap))) <= longest:
        durations.append(following)
    return durations


def anchor_steps(durations: Tensor, steps: int) -> Tensor:
    """Every duration at every start, `[D]` int64 to `[D, L, 2]` start and end in steps."""
    start = torch.arange(steps, device=durations.device).expand(len(durations), -1)  # [D, L]
    return torch.stack([start, start + durations.unsqueeze(1)], dim=2)


def anchors_exist(anchors: Tensor, mask: Tensor) -> Tensor:
    """Whether an anchor's first and last step are valid: `[D, L, 2]` and `[B, L]` to `[B, D, L]`."""
    steps = mask.shape[1]
    last = anchors[..., 1] - 1  # [D, L]
    return mask.unsqueeze(1) & mask[:, last.clamp(max=steps - 1)] & (last < steps)
