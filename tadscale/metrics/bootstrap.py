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
    videos = len(ground_truth.videos)
    if videos < 2:
        raise UserError(f"The ground truth has {videos} video(s); a bootstrap over videos needs 2 or more.")
    matches = [
        tuple(match_detections(detections, ground_truth, tiou, ties="stable") for detections in pair) for pair in pairs
    ]

    def means(weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Of challengers and champions, `[2]`."""
        each = [[_mean(average_precision(of_one, ground_truth, weight)) for of_one in pair] for pair in matches]
        return np.mean(each, axis=0)

    random = np.random.Generator(np.random.Philox(seed))
    differences = np.empty(draws)
    for draw in range(draws):
        first, second = means(random.multinomial(videos, np.full(videos, 1 / videos)).astype(np.float64))  # [videos]
        differences[draw] = first - second
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(differences, [tail, 1 - tail]).tolist()
    challenger, champion = means().tolist()
    return PairedBootstrap(
        challenger=challenger,
        champion=champion,
        low=low,
        high=high,
        confidence=confidence,
        better_share=float((differences > 0).mean()),
    )


def _mean(per_class: NDArray[np.float64]) -> float:
    """Average mAP of `[K, T]` over the classes that are present; NaN when a draw of empty videos has none."""
    present = ~np.isnan(per_class[:, 0])
    return float(per_class[present].mean()) if present.any() else float("nan")
