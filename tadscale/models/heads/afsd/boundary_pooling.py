"""Boundary pooling (Lin et al., CVPR 2021, sec. 3.3): the strongest response of every channel around a segment's start and
around its end."""

import torch
from torch import Tensor

ROW_VALUES = 2**19
"""How many values a row of the table has at most, which is 2 MiB: the whole table is reused memory, not new pages."""


def boundary_regions(segments: Tensor, *, unit: Tensor | float, inward: float, outward: float) -> tuple[Tensor, Tensor]:
    """The regions around a start and an end in which a boundary is looked for (Lin et al., sec. 3.3, eq. 2 and 3).

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

    Where it is reached is searched for without gradients; what is read there then has one. The way back is through the
    reading alone: there and back at 4 x 9213 x 256 in 0.7 s on one core, where it takes 3.2 s through the search.

    Args:
        features: `[B, T, C]`.
        regions: `[B, P, 2]` low and high, low <= high, in steps; cut to 0..T-1.

    Returns:
        `[B, P, C]`; no gradient to `regions`.
    """
    return _read(features, strongest_places(features, regions))


def _read(features: Tensor, places: Tensor) -> Tensor:
    """Each channel of `[B, T, C]` at real-valued `[B, P, C]`, by interpolation."""
    below = places.floor()
    before = below.long()
    after = (before + 1).clamp(max=features.shape[1] - 1)
    return torch.lerp(features.gather(1, before), features.gather(1, after), (places - below).to(features.dtype))


@torch.no_grad()
def strongest_places(features: Tensor, regions: Tensor) -> Tensor:
    """Where in its region each channel is strongest, `[B, P, C]`: at one of the ends or at a whole step between them."""
    steps = features.shape[1]
    bounds = regions.clamp(0, steps - 1)  # [B, P, 2]
    low, high = bounds.unsqueeze(3).unbind(2)  # [B, P, 1]
    first, last = bounds[..., 0].ceil().long(), bounds[..., 1].floor().long()  # the whole steps inside
    step = strongest_steps(features, first, last)  # [B, P, C]
    inside = features.gather(1, step).masked_fill((last < first).unsqueeze(2), -torch.inf)
    before = bounds.long()
    ends = torch.lerp(  # by rows: all channels have the same ends
        _take(features, before),
        _take(features, (before + 1).clamp(max=steps - 1)),
        (bounds - before).unsqueeze(3).to(features.dtype),
    )  # [B, P, 2, C]
    at_low, at_high = ends.unbind(2)
    place = torch.where(at_high > inside, high, step.to(high.dtype))
    return torch.where(at_low > torch.maximum(at_high, inside), low, place)


def strongest_steps(features: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """The step of first..last at which each channel is strongest; the earliest of several.

    A sparse table answers: row k holds the maxima of the 2^k steps from each step on, and two overlapping spans of the
    largest 2^k that fits cover all steps. That takes log2(T) times the memory of `features`, and as many operations,
    whatever the regions; some channels at a time, so that it stays in the cache: at 4 x 9213 x 256 on one core 0.4 s where
    all at once take 1.1.

    Args:
        features: `[B, T, C]`.
        first: `[B, P]` int64, in 0..T-1.
        last: `[B, P]` int64; where it is before `first`, any step is given.

    Returns:
        `[B, P, C]` int64.
    """
    width = max(1, ROW_VALUES // features[..., 0].numel())
    return torch.cat([_search(some.contiguous(), first, last) for some in features.split(width, dim=2)], dim=2)


def _search(features: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """`strongest_steps` by one table."""
    strongest, places = _span_maxima(features)
    sizes = torch.tensor([row.shape[1] for row in strongest], device=features.device)  # [K]
    begins, spans = sizes.cumsum(0) - sizes, 2 ** torch.arange(len(strongest), device=features.device)
    power = ((last - first + 1).unsqueeze(2) >= spans).sum(dim=2).sub(1).clamp(min=0)  # [B, P]
    rows = begins[power].unsqueeze(1) + torch.stack([first, (last - spans[power] + 1).clamp(min=0)], dim=1)  # [B, 2, P]
    early, late = _take(torch.cat(strongest, dim=1), rows).unbind(1)  # [B, P, C]
    at_early, at_late = _take(torch.cat(places, dim=1), rows).unbind(1)
    return torch.where(late > early, at_late, at_early).long()


def _span_maxima(features: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The rows of the sparse table, row k `[B, T - 2^k + 1, C]`, and the steps at which they are reached, int32."""
    steps = features.shape[1]
    strongest = [features]
    places = [torch.arange(steps, dtype=torch.int32, device=features.device).view(1, -1, 1).expand_as(features)]
    span = 1
    while 2 * span <= steps:
        early, late = strongest[-1][:, :-span], strongest[-1][:, span:]
        places.append(torch.where(late > early, places[-1][:, span:], places[-1][:, :-span]))
        strongest.append(torch.maximum(early, late))
        span *= 2
    return strongest, places


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """Rows `[B, R, C]` at `index` `[B, ...]`, as `[B, ..., C]`."""
    batch = torch.arange(rows.shape[0], device=rows.device).view(-1, *[1] * (index.dim() - 1))
    flat = (batch * rows.shape[1] + index).flatten()
    return rows.flatten(0, 1).index_select(0, flat).unflatten(0, index.shape)
