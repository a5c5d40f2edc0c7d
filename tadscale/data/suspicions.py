"""What is allowed and yet looks wrong: annotations that fit another file, other units of time, or a class spelt twice."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tadscale.data.annotations import AnnotatedVideo, parse_ground_truth
from tadscale.data.decode import VideoInfo
from tadscale.errors import UserError

SLACK_S, SLACK = 1.0, 0.05
"""A stated duration may be this much off: published ones are rounded, and copies lose a tail."""
BEYOND = 3.0
"""Times that end this much later than the videos (in the median) are taken for another unit."""
RATE_SLACK = 0.05
"""A video may have this much fewer pictures a second than it is to have: 24 pass for 25, 29.97 for 30."""
SHOWN = 3
AMBIGUOUS = "Ambiguous"


def spelling(label: str) -> str:
    """What `High Jump`, `high_jump` and `HighJump` have in common; of a label without letters and digits, all of it."""
    return "".join(filter(str.isalnum, label.casefold())) or label


class _Span(NamedTuple):
    end: float
    duration_s: float
    fps: float


class Suspicions:
    """Looks at videos one by one; `warnings` says what is remarkable about them together."""

    def __init__(self) -> None:
        self._durations: list[str] = []
        self._labels: Counter[str] = Counter()
        self._spans: list[_Span] = []
        self._slow: list[str] = []
        self._cut: list[str] = []

    def see(self, key: str, annotation: Any, info: VideoInfo, wanted_fps: float = 0.0) -> None:
        """Take note of one video. A malformed annotation is for others to refuse.

        Args:
            key: its own.
            annotation: its entry.
            info: what its file says.
            wanted_fps: how many pictures a second it is brought to, if it is.
        """
        if info.fps < wanted_fps * (1 - RATE_SLACK):
            self._slow.append(f"{key}: {info.fps:g} of {wanted_fps:g}")
        if info.promised_s - info.duration_s > max(SLACK_S, SLACK * info.promised_s):
            self._cut.append(f"{key}: {info.duration_s:.1f} of {info.promised_s:.1f} s")
        try:
            [video] = parse_ground_truth({"database": {key: annotation}}, key)
        except UserError:
            return
        self._labels.update(segment.label for segment in video.segments)
        self._compare(video, info)
        if video.segments:
            latest = max(segment.end_s for segment in video.segments)
            self._spans.append(_Span(latest, info.duration_s, info.fps))

    def add(self, other: "Suspicions") -> None:
        """Take over what another one saw."""
        self._durations += other._durations
        self._labels += other._labels
        self._spans += other._spans
        self._slow += other._slow
        self._cut += other._cut

    def warnings(self) -> list[str]:
        """One line a kind; none if nothing is remarkable."""
        alone = self._other_files(), self._cut_short(), self._other_unit(), self._ambiguous(), self._shown_twice()
        return [line for line in (*alone, *self._twins()) if line]

    def _compare(self, video: AnnotatedVideo, info: VideoInfo) -> None:
        stated = video.duration_s
        if stated and abs(stated - info.duration_s) > max(SLACK_S, SLACK * info.duration_s):
            self._durations.append(f"{video.video}: {stated:g} s stated, {info.duration_s:.1f} s in the file")

    def _other_files(self) -> str:
        if not self._durations:
            return ""
        return (
            f"{len(self._durations)} videos are not as long as their annotations say: other files, cut short, or at "
            f"another speed? {_first(self._durations)}"
        )

    def _cut_short(self) -> str:
        if not self._cut:
            return ""
        return (
            f"{len(self._cut)} videos have fewer pictures than their headers promise: cut short on their way, or with a "
            f"sound that goes on? {_first(self._cut)}"
        )

    def _shown_twice(self) -> str:
        if not self._slow:
            return ""
        return (
            f"{len(self._slow)} videos have fewer pictures a second than they are brought to: some are shown twice, and "
            f"nothing moves between those; ask for a lower rate. {_first(self._slow)}"
        )

    def _other_unit(self) -> str:
        if not self._spans:
            return ""
        end, duration_s, fps = np.array(self._spans).T  # [V] each
        if np.median(end / duration_s) < BEYOND:
            return ""
        units: Mapping[str, Any] = {"frame numbers": fps, "milliseconds": 1e3, "microseconds": 1e6}
        for unit, divisor in units.items():
            if np.mean(end / divisor <= duration_s * (1 + SLACK)) > 0.9:
                return (
                    f"the times look like {unit}, they are read as seconds: a segment ends at {end.max():g}, and the "
                    f"longest video lasts {duration_s.max():.1f} s"
                )
        return ""

    def _ambiguous(self) -> str:
        if not self._labels[AMBIGUOUS]:
            return ""
        return (
            f"{self._labels[AMBIGUOUS]} segments are {AMBIGUOUS!r}, which is a class now: THUMOS14 calls so what is hard to "
            "call action or none, and the field leaves it out (`tadscale data import thumos14` sets it aside)"
        )

    def _twins(self) -> list[str]:
        alike: dict[str, list[str]] = defaultdict(list)
        for label in sorted(self._labels):
            alike[spelling(label)].append(label)
        return [
            "labels that differ by case, blanks or punctuation only are classes of their own: "
            + ", ".join(f"{label!r} ({self._labels[label]} segments)" for label in labels)
            for labels in alike.values()
            if len(labels) > 1
        ]


def _first(lines: list[str]) -> str:
    return "; ".join(lines[:SHOWN]) + ("; ..." if len(lines) > SHOWN else "")
