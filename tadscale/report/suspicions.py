"""What makes a figure suspicious: names that do not meet, videos of one side only, times in another unit.

Each of these gives a figure that looks like a weak detector's, without a word: 2.22 where "High Jump" met "HighJump", 0.00
where frames met seconds.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadscale.errors import closest
from tadscale.metrics.overlap import touches_instance
from tadscale.metrics.tables import DetectionTable, GroundTruth, index_of
from tadscale.report.video_names import twins

NAMED = 12
"""Names that a remark lists."""
FEW = 0.1
"""Share of detections that overlap an instance, below which another unit is tried. S-CNN's on THUMOS14 have .6; the same
in frames or milliseconds .02 and less."""
UNITS = {"milliseconds": 1e-3, **{f"frames at {fps} a second": 1 / fps for fps in (60, 50, 30, 25, 24, 15, 10)}}
"""What times may be in place of seconds, and what turns it into seconds."""


@dataclass(frozen=True, kw_only=True)
class Suspicions:
    """What a reader should look at before believing a figure."""

    foreign_classes: dict[str, int]
    """Labels that the ground truth does not have, to the number of their detections, which are left out."""
    nearest_classes: dict[str, str]
    """Of these labels, those that are spelt nearly as a class of the ground truth, and that class."""
    undetected_classes: tuple[str, ...]
    """Classes of the ground truth without any detection: each weighs a zero in the mean."""
    foreign_videos: tuple[str, ...]
    """Videos that have detections and are not in the subset."""
    nearest_videos: dict[str, str]
    """Of these, those that may be another spelling of a video of the subset, and that video."""
    respelt_videos: dict[str, str]
    """Names that were taken for another spelling, and the videos of the subset that their detections count on."""
    foreign_video_detections: int
    """How many detections of known classes are on those."""
    empty_detections: int
    """Detections of known classes that do not end after they start."""
    empty_instances: int
    """Instances of the ground truth that do not."""
    late_detections: int
    """Detections that begin after the stated end of their video."""
    late_instances: int
    """Instances of the ground truth that do."""
    repeated_detections: int
    """Detections of known classes that repeat another to the last digit, as where files were joined twice."""
    repeated_instances: int
    """Likewise instances of the ground truth."""
    detections: int
    """Of all classes and videos."""
    silent_videos: tuple[str, ...]
    """Videos of the subset without any detection."""
    touching: float
    """Share of the detections on the subset's videos that overlap an instance at all, of whatever class."""
    unit: str
    """What the times seem to be, if not seconds; else empty."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return vars(self) | {"remarks": list(self.remarks())}

    def remarks(self) -> Iterator[str]:
        """A sentence each, the gravest first."""
        if self.unit:
            yield (
                f"Only {self.touching:.1%} of the detections overlap any instance of their video, whatever its class: their "
                f"times seem to be {self.unit}, expected are seconds."
            )
        elif not self.detections:
            yield "There is no detection at all."
        elif not self.touching:
            yield (
                "No detection overlaps any instance of its video, whatever its class. Are the times seconds, and not frames "
                "or milliseconds? Is each video what its name says?"
            )
        if self.foreign_classes:
            labels = sorted(self.foreign_classes, key=lambda label: (label not in self.nearest_classes, label))
            yield (
                f"{sum(self.foreign_classes.values())} detections of classes without ground truth are left out: "
                f"{listed([self._foreign(label) for label in labels])}."
            )
        if self.undetected_classes:
            remedy = "" if self.nearest_classes else " (--leave-out CLASS for what was never to be found)"
            yield f"Without any detection, and each a 0 in the mean: {listed(self.undetected_classes)}{remedy}."
        if self.silent_videos:
            yield f"Videos of the subset without any detection: {listed(self.silent_videos)}."
        if self.foreign_video_detections:
            yield (
                f"{self.foreign_video_detections} detections on videos outside the subset count as false positives: "
                f"{listed([self._foreign_video(video) for video in self.foreign_videos])}."
            )
        if self.respelt_videos:
            names = [f"{name!r} as {video!r}" for name, video in self.respelt_videos.items()]
            yield (
                f"{len(names)} videos of the detections are spelt otherwise in the ground truth, as packing allows, and "
                f"taken for those: {listed(names)}."
            )
        if self.empty_detections:
            yield f"{self.empty_detections} detections do not end after they start: false positives."
        if self.empty_instances:
            yield f"{self.empty_instances} instances do not end after they start: counted, and never found."
        if self.late_detections:
            yield (
                f"{self.late_detections} detections begin after the stated end of their video. Are their times seconds, and "
                "the video the one that was annotated?"
            )
        if self.late_instances:
            yield (
                f"{self.late_instances} instances begin after the stated end of their video: counted, and never found. Are "
                "the ground truth's times seconds?"
            )
        if self.repeated_detections:
            yield (
                f"{self.repeated_detections} detections repeat another to the last digit: false positives. Were files that "
                "share videos joined?"
            )
        if self.repeated_instances:
            yield f"{self.repeated_instances} instances repeat another: each wants a detection of its own."

    def _foreign(self, label: str) -> str:
        near = self.nearest_classes.get(label)
        return f"{label!r} ({self.foreign_classes[label]})" + (f", meant as {near!r}?" if near else "")

    def _foreign_video(self, video: str) -> str:
        near = self.nearest_videos.get(video)
        return f"{video} (meant as {near!r}?)" if near else video


def find_suspicions(
    detections: DetectionTable,
    ground_truth: GroundTruth,
    respelt: Mapping[str, str] | None = None,
    duration_s: NDArray[np.float64] | None = None,
) -> Suspicions:
    """Look at detections and the ground truth that they are scored against.

    Args:
        detections: of any videos.
        ground_truth: one subset.
        respelt: names of videos that were changed to the ground truth's, see `tadscale.report.video_names`.
        duration_s: `[videos]` stated length of each video of the ground truth, NaN where none is.
    """
    video = index_of(detections.videos, ground_truth.videos)[detections.video]  # [N]
    on_video = video >= 0  # [N]
    ends = np.full(len(ground_truth.videos), np.nan) if duration_s is None else duration_s  # [videos]
    known = index_of(detections.labels, ground_truth.labels)[detections.label] >= 0  # [N]
    foreign = Counter(detections.labels[label] for label in detections.label[~known].tolist())
    detected = {detections.labels[label] for label in detections.label.tolist()}
    spoken = {detections.videos[video] for video in detections.video.tolist()}
    touching = _share(detections, ground_truth, on_video)
    foreign_videos = tuple(sorted(spoken - set(ground_truth.videos)))
    return Suspicions(
        foreign_classes=dict(sorted(foreign.items())),
        nearest_classes={label: near for label in foreign if (near := closest(label, ground_truth.labels))},
        undetected_classes=tuple(label for label in ground_truth.labels if label not in detected),
        foreign_videos=foreign_videos,
        nearest_videos=twins(foreign_videos, ground_truth.videos),
        respelt_videos=dict(respelt or {}),
        foreign_video_detections=int((known & ~on_video).sum()),
        empty_detections=_empty(detections.segments_s[known]),
        empty_instances=_empty(ground_truth.segments_s),
        late_detections=int((detections.segments_s[on_video, 0] >= ends[video[on_video]]).sum()),
        late_instances=int((ground_truth.segments_s[:, 0] >= ends[ground_truth.video]).sum()),
        repeated_detections=_repeated(
            detections.video[known], detections.label[known], *detections.segments_s[known].T, detections.score[known]
        ),
        repeated_instances=_repeated(ground_truth.video, ground_truth.label, *ground_truth.segments_s.T),
        detections=len(detections),
        silent_videos=tuple(video for video in ground_truth.videos if video not in spoken),
        touching=touching,
        unit=_other_unit(detections, ground_truth, on_video, touching),
    )


def _empty(segments_s: NDArray[np.float64]) -> int:
    return int((segments_s[:, 1] <= segments_s[:, 0]).sum())


def _repeated(*columns: NDArray[Any]) -> int:
    """How many rows are equal to one before them."""
    order = np.lexsort(columns)
    same = [column[order][1:] == column[order][:-1] for column in columns]
    return int(np.logical_and.reduce(same).sum())


def _share(detections: DetectionTable, ground_truth: GroundTruth, on_video: np.ndarray, scale: float = 1.0) -> float:
    touched = touches_instance(detections, ground_truth, scale)[on_video]
    return float(touched.mean()) if touched.size else 0.0


def _other_unit(detections: DetectionTable, ground_truth: GroundTruth, on_video: np.ndarray, touching: float) -> str:
    """The unit in which clearly more detections would overlap an instance: three times as many, and every fifth."""
    if not on_video.any():
        return ""
    if detections.segments_s[on_video].max() <= 1 < ground_truth.segments_s.max() / 10:
        return "fractions of the video's length"
    if touching >= FEW:
        return ""
    shares = {name: _share(detections, ground_truth, on_video, scale) for name, scale in UNITS.items()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > max(0.2, 3 * touching) else ""


def listed(names: Sequence[str]) -> str:
    """Names for a remark: the first few, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
