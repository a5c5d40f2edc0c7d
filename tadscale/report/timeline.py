"""Detections against ground truth on a common time axis: what a Timeline is, and its picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tadscale.report.palette import class_colours, faded, text_colour
from tadscale.segments import Detection, Segment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_INCHES = 0.42
WIDTH_INCHES = 12.0
MIN_TEXT_SHARE = 0.006
"""Width of one letter as a share of the time axis: a label is written into a bar that holds it."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One video with its ground truth and what one or several models found in it."""

    video: str
    duration_s: float
    ground_truth: tuple[Segment, ...] = ()
    detections: Mapping[str, Sequence[Detection]] = field(default_factory=dict)
    """Model name to its detections, in the order in which the rows shall stand."""
    precision: float | None = None
    """Average precision of the model in question inside this video (`precision_by_video`), if it has one."""
    preview: bytes = b""
    """The video as a small MP4 to look at, if it is at hand; of the same length."""

    def __post_init__(self) -> None:
        if not self.duration_s > 0:
            raise ValueError(
                f"{self.video}: duration_s is {self.duration_s}, expected a positive number of seconds. "
                "Where a file does not say, take the end of the last segment."
            )

    @property
    def labels(self) -> set[str]:
        """Every class that occurs."""
        detected = {detection.label for row in self.detections.values() for detection in row}
        return detected | {segment.label for segment in self.ground_truth}


def plot_timeline(timelines: Sequence[Timeline], path: str | Path) -> None:
    """Draw videos one above the other: a row of ground truth and a row per model, a colour per class.

    A detection's bar is as high and as strong in colour as its score, relative to the best score of its row, which is
    written at the row's end. Low bars stand in front of high ones, so that none hides another.

    Args:
        timelines: one or more videos.
        path: of the PNG to write (matplotlib knows the suffix: .svg and .pdf work as well).

    Raises:
        ValueError: there is no video.
    """
    from matplotlib.figure import Figure  # late: 0.5 s, and report/ is imported by command lines that draw nothing
    from matplotlib.patches import Patch

    if not timelines:
        raise ValueError("There is no video to draw; pass at least one Timeline.")
    rows = [1 + len(timeline.detections) for timeline in timelines]
    colours = class_colours(set().union(*(timeline.labels for timeline in timelines)))
    legend_rows = -(-len(colours) // 6)
    heights = [ROW_INCHES * count + 0.75 for count in rows]
    total = sum(heights) + 0.25 * legend_rows + 0.15
    figure = Figure(figsize=(WIDTH_INCHES, total), dpi=130, layout="constrained")
    axes = figure.subplots(len(timelines), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, timeline in zip(axes, timelines, strict=True):
        _draw_video(axis, timeline, colours)
    axes[-1].set_xlabel("time, s", fontsize=9)
    if colours:
        patches = [Patch(color=colour, label=label) for label, colour in colours.items()]
        figure.legend(handles=patches, loc="outside upper left", ncols=6, frameon=False, fontsize=9)
    figure.savefig(path)


def lanes(segments: Sequence[Segment]) -> list[int]:
    """A lane for each segment such that none overlaps another of its lane; as few lanes as possible, the first
    first."""
    free_at: list[float] = []
    chosen = [0] * len(segments)
    for place in sorted(range(len(segments)), key=lambda place: segments[place].start_s):
        segment = segments[place]
        lane = next((lane for lane, end_s in enumerate(free_at) if end_s <= segment.start_s), len(free_at))
        free_at[lane : lane + 1] = [segment.end_s]
        chosen[place] = lane
    return chosen


def _draw_video(axis: "Axes", timeline: Timeline, colours: Mapping[str, str]) -> None:
    names = ["ground truth", *timeline.detections]
    for place, name in enumerate(names):
        base = len(names) - 1 - place
        axis.axhline(base, color="#d0d0d0", linewidth=0.8, zorder=0)
        if place == 0:
            _draw_instances(axis, timeline, base, colours)
        else:
            _draw_detections(axis, timeline.detections[name], base, colours)
    axis.set_yticks([base + 0.4 for base in range(len(names))], names[::-1], fontsize=9)
    axis.set_ylim(-0.05, len(names))
    axis.set_xlim(0, timeline.duration_s)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8, colors="#555555")
    axis.set_title(f"{timeline.video}   {timeline.duration_s:.1f} s", loc="left", fontsize=10, fontweight="bold")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _draw_instances(axis: "Axes", timeline: Timeline, base: int, colours: Mapping[str, str]) -> None:
    of_segment = lanes(timeline.ground_truth)
    height = 0.8 / (max(of_segment, default=0) + 1)
    for segment, lane in zip(timeline.ground_truth, of_segment, strict=True):
        colour, bottom, length_s = colours[segment.label], base + lane * height, segment.end_s - segment.start_s
        axis.barh(bottom, length_s, height, segment.start_s, align="edge", color=colour, edgecolor="white")
        if height > 0.25 and length_s > MIN_TEXT_SHARE * timeline.duration_s * len(segment.label):
            centre = segment.start_s + length_s / 2, bottom + height / 2
            axis.text(*centre, segment.label, ha="center", va="center", fontsize=7, color=text_colour(colour))


def _draw_detections(axis: "Axes", detections: Sequence[Detection], base: int, colours: Mapping[str, str]) -> None:
    ranked = sorted(detections, key=lambda detection: -detection.score)
    if not ranked:
        axis.text(1.003, base + 0.3, "none", fontsize=7, color="#777777", transform=axis.get_yaxis_transform())
        return
    best = ranked[0].score
    axis.text(1.003, base + 0.3, f"≤ {best:.2g}", fontsize=7, color="#777777", transform=axis.get_yaxis_transform())
    for order, detection in enumerate(ranked):
        share = detection.score / best if best > 0 else 0.0
        axis.barh(
            base,
            detection.end_s - detection.start_s,
            max(0.8 * share, 0.02),
            detection.start_s,
            align="edge",
            color=faded(colours[detection.label], 0.3 + 0.7 * share),
            edgecolor="white",
            linewidth=0.4,
            zorder=2 + order / len(ranked),
        )
