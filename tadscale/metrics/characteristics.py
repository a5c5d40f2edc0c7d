"""What an instance is like: how long, how much of its video, one of how many. Into buckets from XS to XL.

Source: DETAD (Alwassel, Caba Heilbron, Escorcia, Ghanem, ECCV 2018), section "Data Characterization"; of its six
characteristics those three that follow from the annotations. Context and agreement were annotated by hand.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tadscale.metrics.tables import GroundTruth

SIZES = ("XS", "S", "M", "L", "XL")
Bounds = tuple[float, ...]
"""Upper bounds of buckets, ascending, each included; what is above the last is in no bucket."""


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Where the buckets of a data set lie."""

    length_s: Bounds
    """How long an instance is."""
    coverage: Bounds
    """Its length over that of its video."""
    instances: Bounds
    """How many instances of its class its video has. The file of characteristics that DETAD's authors published for THUMOS14
    counts those of all classes, which differs for 782 of 3358."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Characteristic:
    """One characteristic of every instance."""

    name: str
    buckets: tuple[str, ...]
    """`[B]` names, such as `XS, up to 3 s`."""
    bucket: NDArray[np.int64]
    """`[M]` bucket of each instance; -1 where it is in none: without length, or the video's length unknown."""


def quintiles(ground_truth: GroundTruth, duration_s: NDArray[np.float64]) -> Buckets:
    """Buckets of a data set for which nobody fixed any: five of equal size by length and by coverage.

    Args:
        ground_truth: the instances.
        duration_s: `[videos]` length of each video, NaN where it is not known.
    """
    length, coverage, _ = _values(ground_truth, duration_s)
    return Buckets(length_s=_fifths(length), coverage=_fifths(coverage), instances=(1, 4, 8, np.inf))


def characteristics(
    ground_truth: GroundTruth, duration_s: NDArray[np.float64], buckets: Buckets
) -> tuple[Characteristic, ...]:
    """Length, coverage and number of instances; coverage only where the length of some video is known.

    Args:
        ground_truth: the instances.
        duration_s: `[videos]` length of each video, NaN where it is not known.
        buckets: of the data set.
    """
    length, coverage, instances = _values(ground_truth, duration_s)  # [M] each
    lasting = length > 0  # [M]
    found = [_bucketed("length", length, buckets.length_s, " s", lasting)]
    if np.isfinite(coverage).any():
        found.append(
            _bucketed("coverage", 100 * coverage, tuple(100 * bound for bound in buckets.coverage), " %", lasting)
        )
    return (*found, _bucketed("instances in the video", instances, buckets.instances, "", lasting))


def _values(ground_truth: GroundTruth, duration_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Length in seconds, coverage as a fraction and number of instances, `[M]` each; NaN where unknown."""
    length = ground_truth.segments_s[:, 1] - ground_truth.segments_s[:, 0]
    duration = duration_s[ground_truth.video]  # [M]
    coverage = np.divide(length, duration, out=np.full(len(length), np.nan), where=duration > 0)
    group = ground_truth.video * len(ground_truth.labels) + ground_truth.label  # [M]
    _, member, count = np.unique(group, return_inverse=True, return_counts=True)
    return length, coverage, count[member].astype(np.float64)


def _fifths(values: NDArray[np.float64]) -> Bounds:
    """Upper bounds of five buckets with as many values each, to three digits; fewer where values repeat."""
    known = values[values > 0]  # not NaN either
    if not known.size:
        return (np.inf,)
    bounds = {float(f"{bound:.3g}") for bound in np.quantile(known, (0.2, 0.4, 0.6, 0.8))}
    return (*sorted(bounds), np.inf)


def _bucketed(
    name: str, values: NDArray[np.float64], bounds: Bounds, unit: str, lasting: NDArray[np.bool_]
) -> Characteristic:
    inside = lasting & (values <= bounds[-1])  # NaN is not
    bucket = np.where(inside, np.searchsorted(bounds, values, side="left"), -1)
    return Characteristic(name=name, buckets=_names(bounds, unit), bucket=bucket.astype(np.int64))


def _names(bounds: Bounds, unit: str) -> tuple[str, ...]:
    """`XS, up to 3 s`, `S, 3 to 6 s`, ..., `XL, over 18 s`; without a unit whole numbers: `S, 2 to 4`."""
    ranges = [f"up to {bounds[0]:g}{unit}"] if np.isfinite(bounds[0]) else ["all"]
    for low, high in pairwise(bounds):
        lowest = low if unit else low + 1
        ranges.append(f"{lowest:g} to {high:g}{unit}" if np.isfinite(high) else f"over {low:g}{unit}")
    return tuple(f"{size}, {text}" for size, text in zip(SIZES, ranges, strict=False))
