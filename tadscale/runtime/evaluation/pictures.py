"""What a run keeps to be looked at: the videos with what was found in them, the hardest first, and the curves."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tadscale.data.manifest import Manifest
from tadscale.data.storage import read_bytes
from tadscale.data.windows import read_video
from tadscale.metrics.average_precision import match_detections
from tadscale.metrics.per_video import precision_by_video
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.report.curves import plot_curves, read_log
from tadscale.report.previews import with_previews
from tadscale.report.timeline import Timeline, plot_timeline
from tadscale.report.timeline_html import timeline_html
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.tracking.run import Run
from tadscale.segments import Segment

PICTURED_VIDEOS = 6  # of the test subset, in the timeline picture; the page has all of them
PICTURED_SCORE = 0.1  # weaker detections are left out of pictures, not of files


def log_timelines(run: Run, timelines: list[Timeline], test: Manifest) -> None:
    """The page with every video of the test subset, the hardest ones to play, and a picture of some.

    Args:
        run: gets `timelines.html` and `pictures/timelines.png`.
        timelines: the hardest first, see `hardest_first`.
        test: the manifest of their videos.
    """
    page, rows = timelines, {key: index for index, key in enumerate(test.column("key").tolist())}
    if test.features is None:
        page = list(with_previews(timelines, lambda video: read_video(test.row(rows[video]))))
    run.log_text(timeline_html(page, "Detections against ground truth"), "timelines.html")
    with tempfile.TemporaryDirectory() as folder:
        plot_timeline(timelines[:PICTURED_VIDEOS], Path(folder, "timelines.png"))
        run.log_folder(Path(folder), "pictures")


def timelines_of(
    segments: Mapping[str, list[Segment]], duration_s: Mapping[str, float], tables: Mapping[str, DetectionTable]
) -> list[Timeline]:
    """A timeline a video, with the detections of every network that are strong enough to be seen."""
    seen: dict[str, dict] = {video: {name: [] for name in tables} for video in segments}
    for name, table in tables.items():
        for row in table.to_detections():
            if row.score >= PICTURED_SCORE:
                seen[row.video][name].append(row)
    return [
        Timeline(video=video, duration_s=duration_s[video], ground_truth=tuple(truth), detections=seen[video])
        for video, truth in segments.items()
    ]


def hardest_first(
    timelines: list[Timeline], judged: DetectionTable, truth: GroundTruth, tiou: tuple[float, ...]
) -> list[Timeline]:
    """Timelines by the average precision of one network inside each video; those without an instance come last."""
    values = precision_by_video(match_detections(judged, truth, tiou, ties="stable"), judged, truth).tolist()
    precision = dict(zip(truth.videos, values, strict=True))
    scored = [
        replace(one, precision=None if math.isnan(precision[one.video]) else precision[one.video]) for one in timelines
    ]
    return sorted(scored, key=lambda one: math.inf if one.precision is None else one.precision)


def log_curves(run: Run, stages: Mapping[str, StageResult]) -> None:
    """The curves of every stage, as pictures."""
    with tempfile.TemporaryDirectory() as folder:
        for name, result in stages.items():
            log = Path(folder, f"{name}.jsonl")
            log.write_bytes(read_bytes(result.log_url))
            plot_curves(read_log(log), Path(folder, f"curves-{name}.png"))
            log.unlink()
        run.log_folder(Path(folder), "pictures")
