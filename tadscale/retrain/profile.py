"""What a network was trained on, small enough to go with each registered version.

Every video's digest, so that a new one is known; and a sample of videos with what can drift. The sample is drawn by digest,
which is by lot, and stays the same however often it is drawn.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from tadscale.config import Config
from tadscale.data.manifest import Manifest, VideoRow
from tadscale.metrics.tables import DetectionTable
from tadscale.retrain.appearance import VideoLook

DIGITS = 16
"""Hexadecimal digits of a video's digest: of a million videos two are taken for one with a chance of 1 in 37 million."""
SAMPLE = 256
"""Videos whose annotations are kept one by one."""
LOOKED_AT = 64
"""Of these, videos that are decoded: distances of 0.35 between so many are not chance. They take seconds."""
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
STRONGEST = 5
"""Detections of a video whose mean score is the confidence in it."""
Look = Callable[[VideoRow], VideoLook | None]


class VideoFacts(Config):
    """What of one video can drift."""

    duration_s: float
    """Its length."""
    labels: dict[str, int] | None
    """Segments by class; None where nobody has annotated it."""
    look: VideoLook | None = None
    """How it looks and moves; None where it was not decoded."""


class DataProfile(Config):
    """Training videos, and the test videos of that time."""

    format: Literal[1] = 1
    """Version of this description."""
    manifest_digest: str
    """Of all that was trained on."""
    videos: int
    """Trained on."""
    digests: tuple[str, ...]
    """Of each of them, sorted."""
    test_digests: tuple[str, ...]
    """Of the test videos, sorted."""
    classes: tuple[str, ...]
    """All that there were."""
    label_counts: dict[str, int]
    """Annotated segments by class."""
    duration_quantiles_s: tuple[float, ...]
    """Lengths: least, quarter, half, three quarters, greatest."""
    sample: tuple[VideoFacts, ...]
    """Some of them; the first are decoded."""
    confidence: tuple[float, ...] = ()
    """Of the network, in each of a sample of test videos, sorted."""


class Change(NamedTuple):
    """What became of the training videos."""

    new: tuple[VideoRow, ...]
    """Not in the profile."""
    known: int
    """In the profile, and still there."""
    gone: int
    """In the profile, and not there any more."""

    @property
    def fraction(self) -> float:
        """New ones over those of the profile."""
        return len(self.new) / max(1, self.known + self.gone)


def video_digest(row: VideoRow) -> str:
    """What a training video is: its bytes and what is said of them. Renamed or resharded it is the same, annotated anew it
    is another."""
    said = [row.subset, row.labelled, row.labels, row.start_s, row.end_s]
    return hashlib.sha256(json.dumps([row.video_sha256, *said]).encode()).hexdigest()[:DIGITS]


def profile_of(training: Manifest, test: Sequence[VideoRow], look: Look, confidence: Sequence[float]) -> DataProfile:
    """Describe what is trained on.

    Args:
        training: all training videos.
        test: the test videos.
        look: decodes a video; asked of the first `LOOKED_AT` of the sample.
        confidence: of the network in each test video, see `confidences`.
    """
    rows = list(training.facts())
    labels = Counter(label for row in rows for label in row.labels)
    kept = np.random.default_rng(0).permutation(np.asarray(confidence, np.float64))[:SAMPLE]
    return DataProfile(
        manifest_digest=training.digest,
        videos=len(rows),
        digests=tuple(sorted(map(video_digest, rows))),
        test_digests=tuple(sorted(map(video_digest, test))),
        classes=training.classes,
        label_counts=dict(sorted(labels.items())),
        duration_quantiles_s=tuple(round(float(one), 3) for one in np.quantile(training.duration_s, QUANTILES)),
        sample=tuple(sampled(rows, look)),
        confidence=tuple(round(float(one), 5) for one in np.sort(kept)),
    )


def sampled(rows: Sequence[VideoRow], look: Look) -> list[VideoFacts]:
    """The facts of at most `SAMPLE` videos, in the order of their digests."""
    chosen = sorted(rows, key=video_digest)[:SAMPLE]
    return [_facts(row, look(row) if place < LOOKED_AT else None) for place, row in enumerate(chosen)]


def change_since(profile: DataProfile, rows: Iterable[VideoRow]) -> Change:
    """Which videos are new since a profile was made."""
    before = set(profile.digests)
    now = {video_digest(row): row for row in rows}
    known = len(before & now.keys())
    return Change(tuple(row for digest, row in now.items() if digest not in before), known, len(before) - known)


def confidences(detections: DetectionTable, videos: Sequence[str]) -> list[float]:
    """How sure a network is of what it finds in each video: the mean of the `STRONGEST` scores, a missing one counting 0."""
    places = {name: place for place, name in enumerate(detections.videos)}
    found = []
    for video in videos:
        scores = detections.score[detections.video == places.get(video, -1)]
        found.append(float(np.sort(scores)[-STRONGEST:].sum() / STRONGEST))
    return found


def _facts(row: VideoRow, look: VideoLook | None) -> VideoFacts:
    labels = dict(sorted(Counter(row.labels).items())) if row.labelled else None
    return VideoFacts(duration_s=row.duration_s, labels=labels, look=look)
