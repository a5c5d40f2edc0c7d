"""Whether new videos are of another kind: two-sample tests over videos, each with a size and a chance.

A size alone alarms at every handful of videos, a chance alone at every trifle once there are thousands: both are asked.
Videos are the unit, never segments: those of one video are alike.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tadscale.config import Config
from tadscale.retrain.appearance import LOOKS
from tadscale.retrain.config import DriftConfig
from tadscale.retrain.profile import VideoFacts

LABELS, DURATION, MOTION, CONFIDENCE = "label mix", "duration", "speed", "confidence"
TESTS = (LABELS, DURATION, *LOOKS, CONFIDENCE)
"""All that are made; they share the rate of false alarms (Bonferroni)."""
DRAWS = 1999
"""Permutations: chances down to 1 in 2000 are told apart, a test of eight at 1 % asks for 1 in 800."""


class Shift(Config):
    """One test's outcome."""

    what: str
    """Which of `TESTS`."""
    size: float
    """Jensen-Shannon divergence in bits, or Kolmogorov-Smirnov distance."""
    enough: float
    """From where on it counts."""
    chance: float
    """How often videos of one kind differ as much."""
    rare: float
    """Up to where it counts."""

    @property
    def moved(self) -> bool:
        """Whether it is drift."""
        return self.size >= self.enough and self.chance <= self.rare

    def __str__(self) -> str:
        return f"{self.what} moved by {self.size:.2f} (chance {self.chance:.2g})"


def shifts_between(old: Sequence[VideoFacts], new: Sequence[VideoFacts], config: DriftConfig) -> list[Shift]:
    """Every test that there are videos for: labels, durations, appearance and motion."""
    found = [_label_shift(old, new, config)]
    found.append(distance_shift(DURATION, [one.duration_s for one in old], [one.duration_s for one in new], config))
    for name in LOOKS:
        before, after = ([getattr(one.look, name) for one in side if one.look] for side in (old, new))
        found.append(distance_shift(name, before, after, config))
    return [shift for shift in found if shift is not None]


def distance_shift(what: str, old: Sequence[float], new: Sequence[float], config: DriftConfig) -> Shift | None:
    """The two-sample Kolmogorov-Smirnov test; None with too few videos."""
    if min(len(old), len(new)) < config.min_videos:
        return None
    size = ks_distance(np.asarray(old, np.float64), np.asarray(new, np.float64))
    return _shift(what, size, config.distance, ks_chance(size, len(old), len(new)), config)


def ks_distance(old: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """The largest difference between two samples' cumulative distributions, in [0, 1]."""
    values = np.concatenate([old, new])
    below = (np.searchsorted(np.sort(side), values, side="right") / len(side) for side in (old, new))
    first, second = below
    return float(np.abs(first - second).max())


def ks_chance(distance: float, old: int, new: int) -> float:
    """How often two samples of one distribution are at least so far apart, exactly; with ties it is an upper bound.

    Sorted together, the samples are a path on the lattice of (old, new) counts, and all paths are equally likely. Those that
    stay nearer than `distance` to the diagonal are summed up (Hodges, Ark. Mat. 3, 1958, section 2), here as shares of all
    paths to a point, diagonal by diagonal. The usual series (Kolmogorov's, corrected by Stephens) is too small for ten
    videos: 1.8 % of ticks alarmed where 1 % was asked for.
    """
    counts = np.arange(old + 1)
    inside = np.ones(1)  # share of the paths to (0, 0)
    for length in range(1, old + new + 1):
        first, last = max(0, length - new), min(old, length)
        before = np.zeros(old + 2)  # of diagonal length - 1, one place to the right: before[i + 1] is at i
        start = max(0, length - 1 - new)
        before[start + 1 : start + 1 + len(inside)] = inside
        at = counts[first : last + 1]
        share = (before[at] * at + before[at + 1] * (length - at)) / length
        apart = np.abs(at / old - (length - at) / new)
        inside = np.where(apart < distance - 1e-9, share, 0.0)
    return min(1.0, max(0.0, 1.0 - float(inside[0])))


def divergence(old: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence of label mixes, in bits.

    Args:
        old: `[..., K]` segments of each class, at least one in all.
        new: likewise.

    Returns:
        `[...]` in [0, 1].
    """
    mixes = [side / side.sum(axis=-1, keepdims=True) for side in (old, new)]
    middle = (mixes[0] + mixes[1]) / 2
    return sum((_relative_entropy(mix, middle) / 2 for mix in mixes), start=np.zeros(()))


def label_chance(old: NDArray[np.float64], new: NDArray[np.float64], draws: int = DRAWS) -> float:
    """How often mixes differ as much if videos are old and new by lot: a permutation test, with a fixed seed.

    Args:
        old: `[V, K]` segments of each class in each video.
        new: `[W, K]` likewise.
        draws: permutations.
    """
    pooled = np.concatenate([old, new])  # [V + W, K]
    seen = divergence(old.sum(axis=0), new.sum(axis=0))
    lots = np.random.default_rng(0).random((draws, len(pooled)))
    picked = np.zeros_like(lots)  # [D, V + W]
    np.put_along_axis(picked, np.argsort(lots, axis=1)[:, : len(new)], 1.0, axis=1)
    drawn = picked @ pooled  # [D, K]
    left = pooled.sum(axis=0) - drawn
    told = (drawn.sum(axis=1) > 0) & (left.sum(axis=1) > 0)  # else one side has no segment, and no mix
    as_far = divergence(left[told], drawn[told]) >= seen - 1e-12
    return (1 + int(as_far.sum())) / (1 + int(told.sum()))


def _label_shift(old: Sequence[VideoFacts], new: Sequence[VideoFacts], config: DriftConfig) -> Shift | None:
    sides = [[one.labels for one in side if one.labels is not None] for side in (old, new)]
    names = sorted({name for side in sides for labels in side for name in labels})
    if min(map(len, sides)) < config.min_videos or len(names) < 2:
        return None
    before, after = (np.array([[one.get(name, 0) for name in names] for one in side], np.float64) for side in sides)
    if not before.any() or not after.any():
        return None
    size = float(divergence(before.sum(axis=0), after.sum(axis=0)))
    return _shift(LABELS, size, config.label_divergence, label_chance(before, after), config)


def _shift(what: str, size: float, enough: float, chance: float, config: DriftConfig) -> Shift:
    return Shift(what=what, size=size, enough=enough, chance=chance, rare=config.false_alarms / len(TESTS))


def _relative_entropy(mix: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """In bits; a class that has none counts none."""
    ratio = np.divide(mix, middle, out=np.ones_like(mix), where=mix > 0)
    return (mix * np.log2(ratio)).sum(axis=-1)
