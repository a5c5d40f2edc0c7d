"""Boundary pooling: the strongest response of every channel around a segment's start and around its end."""

import torch
import torch.nn.functional as F
from torch import Tensor


def boundary_regions(segments: Tensor, *, unit: Tensor | float, inward: float, outward: float) -> tuple[Tensor, Tensor]:
    """The regions around a start and an end in which a boundary is looked for (sec. 3.3, eq. 2 and 3).

    Args:
        segments: `[..., 2]` start and end, of duration w.
        unit: how far a region reaches at least to each side; broadcast over `[...]`.
        inward: delta_a: a region reaches w / delta_a into the segment.
        outward: delta_b: and w / delta_b out of it.

    Returns:
        `[..., 2]` around the start and `[..., 2]` around the end, in the unit of time of `segments`.
    """
    start, end = segments.unbind(-1)
    inside, outside = (torch.clamp((end - start) / delta, min=unit) for delta in (inward, outward))
    return torch.stack([start - outside, start + inside], dim=-1), torch.stack([end - inside, end + outside], dim=-1)


def boundary_pool(features: Tensor, regions: tuple[Tensor, Tensor]) -> Tensor:
    """The first half of the channels pooled over the regions of the starts, the second half over those of the ends.

    Args:
        features: `[B, T, C]`, C even.
        regions: two times `[B, P, 2]`, in steps of `features`; what lies outside of 0..T-1 is cut off.

    Returns:
        `[B, P, C]`.
    """
    batch = features.shape[0]
    halves = features.unflatten(2, (2, -1)).movedim(2, 1).flatten(0, 1)  # [2 B, T, C / 2], start and end of each window
    pooled = range_max(halves, torch.stack(regions, dim=1).flatten(0, 1))  # [2 B, P, C / 2]
    return pooled.unflatten(0, (batch, 2)).movedim(1, 2).flatten(2)


def range_max(features: Tensor, regions: Tensor) -> Tensor:
    """The maximum over real-valued regions of features that are linear between two steps.

    The published pooling rounds regions to whole steps. Between steps the maximum is continuous in the region, so a
    prediction does not jump with the rounding of its coarse one, and a region shorter than a step has a value of its own.

    A sparse table answers: row k holds the maxima of the 2^k steps from each step on, and two overlapping spans of the
    largest 2^k that fits cover all whole steps of a region. It takes log2(T) times the memory of `features`, and as many
    operations, whatever the regions.

    Args:
        features: `[B, T, C]`.
        regions: `[B, P, 2]` low and high, low <= high, in steps; cut to 0..T-1.

    Returns:
        `[B, P, C]`; no gradient to `regions`.
    """
    steps = features.shape[1]
    low, high = regions.detach().clamp(0, steps - 1).unbind(-1)  # [B, P]
    table, begins = _span_maxima(features)  # [B, R, C], [K]
    first, last = low.ceil().long(), high.floor().long()  # the whole steps inside
    spans = 2 ** torch.arange(begins.shape[0], device=features.device)  # [K]
    power = ((last - first + 1).unsqueeze(2) >= spans).sum(dim=2).sub(1).clamp(min=0)  # [B, P]
    below, under = low.floor().long(), high.floor().long()
    rows = torch.stack(
        [
            below,
            (below + 1).clamp(max=steps - 1),
            under,
            (under + 1).clamp(max=steps - 1),
            begins[power] + first,
            begins[power] + (last - spans[power] + 1).clamp(min=0),
        ],
        dim=1,
    )  # [B, 6, P]
    found = _take(table, rows)  # [B, 6, P, C]
    at_low = torch.lerp(found[:, 0], found[:, 1], (low - below).unsqueeze(2).to(found.dtype))  # [B, P, C]
    at_high = torch.lerp(found[:, 2], found[:, 3], (high - under).unsqueeze(2).to(found.dtype))
    inside = torch.maximum(found[:, 4], found[:, 5])
    ends = torch.maximum(at_low, at_high)
    return torch.where((last >= first).unsqueeze(2), torch.maximum(ends, inside), ends)


def _span_maxima(features: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the sparse table one after the other, `[B, R, C]`, and where each of the K begins, `[K]`.

    Row k has T - 2^k + 1 spans. A pooling of two elements that are half a span apart is one operation where slices and
    their maximum are a dozen on the way back.
    """
    rows, span = [features.transpose(1, 2)], 1  # [B, C, T]
    while 2 * span <= features.shape[1]:
        rows.append(F.max_pool1d(rows[-1], 2, stride=1, dilation=span))
        span *= 2
    sizes = torch.tensor([row.shape[2] for row in rows], device=features.device)
    return torch.cat(rows, dim=2).transpose(1, 2), sizes.cumsum(0) - sizes


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """Rows `[B, R, C]` at `index` `[B, ...]`, as `[B, ..., C]`."""
    batch = torch.arange(rows.shape[0], device=rows.device).view(-1, *[1] * (index.dim() - 1))
    flat = (batch * rows.shape[1] + index).flatten()
    return rows.flatten(0, 1).index_select(0, flat).unflatten(0, index.shape)
