"""Reading a feature sequence between its steps: linear interpolation, and RoIAlign of segments by it."""

import torch
from torch import Tensor


def interpolate(sequence: Tensor, places: Tensor) -> Tensor:
    """Values of sequences at fractional steps; zero outside, and falling to zero within a step of either end.

    Rows are selected and not gathered channel by channel: time and memory are linear in places, whatever the length.

    Args:
        sequence: `[N, L, D]`.
        places: `[N, P]` in steps; 0 is the first step, L - 1 the last.

    Returns:
        `[N, P, D]`.
    """
    count, length, _ = sequence.shape
    rows = sequence.flatten(0, 1)  # [N * L, D]
    first_row = torch.arange(count, device=places.device).unsqueeze(1) * length  # [N, 1]
    left = places.floor()
    value = torch.zeros((), dtype=sequence.dtype, device=sequence.device)
    for step, weight in ((left, left + 1 - places), (left + 1, places - left)):
        inside = (step >= 0) & (step < length)
        # Clamped as integers: a diverged network's places are no numbers, and must not index past the end.
        row = first_row + step.long().clamp(0, length - 1)
        read = rows.index_select(0, row.flatten()).unflatten(0, places.shape)  # [N, P, D]
        value = value + read * (weight * inside).unsqueeze(2)
    return value


def roi_align(sequence: Tensor, segments: Tensor, *, bins: int) -> Tensor:
    """The features of segments, each of any length, at equally many places: the middles of equal parts.

    RoIAlign (He et al., ICCV 2017, sec. 3) in one dimension with one sample a bin.

    Args:
        sequence: `[B, L, D]`.
        segments: `[B, Q, 2]` start and end in steps.
        bins: parts of a segment.

    Returns:
        `[B, Q, bins, D]`.
    """
    middles = (torch.arange(bins, device=segments.device, dtype=segments.dtype) + 0.5) / bins
    start, end = segments[..., :1], segments[..., 1:]
    places = start + (end - start) * middles  # [B, Q, bins]
    return interpolate(sequence, places.flatten(1)).unflatten(1, places.shape[1:])
