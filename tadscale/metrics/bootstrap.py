"""Is one detector better than another, or only luckier with these videos? A paired bootstrap over videos.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval). Videos are what is
drawn, because instances of one video are alike; both detectors are scored on the same draws, because videos differ far
more than detectors do. Matching never crosses videos, so it is done once and a draw only re-weights its verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tadscale.errors import UserError
from tadscale.metrics.average_precision import THUMOS14_TIOU, average_precision, match_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth

CELLS = 1_000_000
"""Draws x thresholds x detections of a class that are summed at once: 8 MB an array, of which there are five or so."""


@dataclass(frozen=True, kw_only=True)
class PairedBootstrap:
    """The difference in average mAP between a challenger and a champion, on the same videos."""

    challenger: float
    """Average mAP of the challenger on the videos as they are, in [0, 1]."""
    champion: float
    """Average mAP of the champion on the videos as they are, in [0, 1]."""
    low: float
    """Lower end of the interval of the difference, challenger minus champion."""
    high: float
    """Upper end of the interval of the difference."""
    confidence: float
    """What share of the draws the interval holds."""
    better_share: float
    """Share of the draws in which the challenger is better."""

    @property
    def difference(self) -> float:
        """Average mAP of the challenger minus that of the champion."""
        return self.challenger - self.champion


def paired_bootstrap(
    challenger: DetectionTable,
    champion: DetectionTable,
    ground_truth: GroundTruth,
    tiou: Sequence[float] = THUMOS14_TIOU,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedBootstrap:
    """Compare two detectors on resampled sets of the same videos.

    Equal scores are ranked by the stable order, so the answer is the same on every machine. A class of which a draw
    holds no instance is left out of that draw's mean, for both detectors.

    Raises:
        UserError: the ground truth has fewer than two videos or no instance, or a threshold is out of range.
    """
    pairs = [(challenger, champion)]
    return bootstrap_pairs(pairs, ground_truth, tiou, draws=draws, confidence=confidence, seed=seed)


def bootstrap_pairs(
    pairs: Sequence[tuple[DetectionTable, DetectionTable]],
    ground_truth: GroundTruth,
    tiou: Sequence[float] = THUMOS14_TIOU,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedBootstrap:
    """The same for several pairs of a challenger and a champion, such as one a seed: all figures are means over the pairs.

    A draw takes the same videos for all pairs. The interval is that of the videos, with these networks: it does not tell
    what other seeds would give.

    Raises: as `paired_bootstrap`.
    """
    tables = [detections for pair in pairs for detections in pair]
    averages = mean_over_classes(
        class_draws(tables, ground_truth, tiou, draws=draws, seed=seed)
    )  # [pairs * 2, draws + 1]
    first, second = averages.reshape(len(pairs), 2, -1).mean(axis=0)  # [draws + 1] of challengers and champions
    differences = (first - second)[1:]
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(differences, [tail, 1 - tail]).tolist()
    return PairedBootstrap(
        challenger=float(first[0]),
        champion=float(second[0]),
        low=low,
        high=high,
        confidence=confidence,
        better_share=float((differences > 0).mean()),
    )


def class_draws(
    tables: Sequence[DetectionTable],
    ground_truth: GroundTruth,
    tiou: Sequence[float] = THUMOS14_TIOU,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Average precision of each class, averaged over thresholds: on the videos as they are, then on resampled sets of them.

    All tables are scored on the same sets.

    Returns:
        `[tables, draws + 1, K]`; NaN for a class of which a set holds no instance.

    Raises:
        UserError: as `paired_bootstrap`.
    """
    videos = len(ground_truth.videos)
    if videos < 2:
        raise UserError(f"The ground truth has {videos} video(s); a bootstrap over videos needs 2 or more.")
    random = np.random.Generator(np.random.Philox(seed))
    drawn = random.multinomial(videos, np.full(videos, 1 / videos), size=draws)
    weights = np.concatenate([np.ones((1, videos)), drawn])  # [draws + 1, videos]
    return np.stack([_class_means(table, ground_truth, tiou, weights) for table in tables])


def mean_over_classes(per_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of `[..., K]` over the classes that are present; NaN where a draw of empty videos has none."""
    present = ~np.isnan(per_class)
    count = present.sum(axis=-1)
    total = np.where(present, per_class, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _class_means(
    table: DetectionTable, ground_truth: GroundTruth, tiou: Sequence[float], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`[sets, K]` of one detector, as many sets of videos at a time as memory is to be taken for."""
    matches = match_detections(table, ground_truth, tiou, ties="stable")
    largest = max(stop - first for first, stop in matches.class_ranges(len(ground_truth.labels)))
    at_once = max(1, CELLS // max(largest * len(matches.tiou), 1))
    parts = [weights[first : first + at_once] for first in range(0, len(weights), at_once)]
    return np.concatenate([average_precision(matches, ground_truth, part).mean(axis=-1) for part in parts])
