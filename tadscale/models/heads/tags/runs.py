"""From a snippet's mask to the segment around it: inference in TAGS (Nag et al., ECCV 2022, sec. 3)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Runs(NamedTuple):
    """The run of every snippet's mask around the snippet itself."""

    steps: Tensor
    """`[B, L, 2]` the low steps between which it lies; int64."""
    segments: Tensor
    """`[B, L, 2]` start and end, in steps and parts of them."""
    overlaps: Tensor
    """`[B, L]` IoU of the run with the mask that it was cut from; 0 where the snippet itself is low: there is no run."""


def runs_around(masks: Tensor, threshold: float) -> Runs:
    """The connected run above `threshold` that holds the snippet, for every snippet at once.

    A run's ends are where the mask, drawn as a line from step to step and to 0 beyond the window, crosses the
    threshold: a soft mask says more of its boundary than the nearest step (ours; the paper takes the steps). Step s
    lasts from s - 1/2 to s + 1/2, so a mask of zeros and ones cut at 1/2 has the ends of its steps.

    Args:
        masks: `[B, L, L]` in [0, 1]; row t is the mask of snippet t.
        threshold: in (0, 1).
    """
    length = masks.shape[2]
    place = torch.arange(length, device=masks.device)  # [L]
    holder = place.unsqueeze(1)  # [L, 1]
    low = masks <= threshold  # [B, L, L]
    # The nearest low step to each side of the snippet. One that is low itself is both: there is no run.
    before = torch.where(low & (place <= holder), place, -1).amax(dim=2)  # [B, L]
    after = torch.where(low & (place >= holder), place, length).amin(dim=2)  # [B, L]
    inside = (place > before.unsqueeze(2)) & (place < after.unsqueeze(2))  # [B, L, L]
    within = (masks * inside).sum(dim=2)  # [B, L]
    overlaps = within / (inside.sum(dim=2) + masks.sum(dim=2) - within).clamp(min=1e-6)
    ends = [_crossing(masks, before, before + 1, threshold), _crossing(masks, after, after - 1, threshold)]
    return Runs(torch.stack([before, after], dim=2), torch.stack(ends, dim=2).clamp(min=0.0), overlaps)


def best_of_equal(steps: Tensor, quality: Tensor, length: int) -> Tensor:
    """Which of the candidates with the same run is of best quality, the first of equals: `[B, C]` to bool `[B, C]`.

    All snippets of an action say the same segment, at every threshold, and a window keeps its 200 best detections: an action
    of 40 steps would fill them alone (ours; the authors' code takes the 10 best snippets and drops what is equal).

    Args:
        steps: `[B, C, 2]` the low steps between which each lies, as `Runs` has them.
        quality: `[B, C]`, not negative.
        length: steps of the window.
    """
    run = (steps[..., 0] + 1) * (length + 1) + steps[..., 1]  # [B, C], a number for each of the window's runs
    best = quality.new_zeros(len(run), (length + 1) ** 2).scatter_reduce(1, run, quality, "amax")
    count = quality.shape[1]
    place = torch.arange(count, device=run.device).expand_as(run)
    of_best = torch.where(quality == best.gather(1, run), place, count)
    first = run.new_full(best.shape, count).scatter_reduce(1, run, of_best, "amin")
    return first.gather(1, run) == place


def _crossing(masks: Tensor, low: Tensor, high: Tensor, threshold: float) -> Tensor:
    """Where the line from a low step to the high one beside it crosses the threshold; steps and result `[B, L]`."""
    padded = F.pad(masks, (1, 1))  # [B, L, L + 2], 0 beyond the window
    below, above = (
        padded.gather(2, (step + 1).clamp(0, padded.shape[2] - 1).unsqueeze(2)).squeeze(2) for step in (low, high)
    )
    share = (threshold - below) / (above - below).clamp(min=1e-6)
    return low + (high - low) * share.clamp(0.0, 1.0)
