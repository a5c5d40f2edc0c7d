"""`tadscale score`: mAP of a detections file against a ground-truth file, as a table or as JSON.

Published mAPs differ because ground truth differs (three THUMOS14 files are in use: 3358, 3325 and 3311 instances), so
a report names its file, digest, videos and instances before it names a figure.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tadscale.data.annotations import (
    Document,
    ground_truth_table,
    normal_subset,
    parse_detections,
    parse_ground_truth,
    read_annotations,
    read_document,
)
from tadscale.data.json_text import MAX_BYTES, parse_json
from tadscale.errors import UserError
from tadscale.metrics.average_precision import (
    THUMOS14_TIOU,
    MeanAveragePrecision,
    evaluate_detections,
    tied_detections,
)
from tadscale.metrics.tables import index_of
from tadscale.report.inputs import check_common, kept_classes, stated_durations, without_classes
from tadscale.report.suspicions import Suspicions, find_suspicions
from tadscale.report.video_names import respelt

MIN_STEP = Decimal("0.001")
"""Finest step between thresholds: a slip of the finger must not ask for a billion of them."""


@dataclass(frozen=True, kw_only=True)
class ScoredFile:
    """What a figure was computed from."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """mAP, and all that one must know to compare it with another."""

    ground_truth: ScoredFile
    detections: ScoredFile
    subset: str
    videos: int
    """Videos of the subset."""
    instances: int
    """Ground-truth instances of the subset."""
    empty_instances: int
    """Of these, how many do not end after they start: nothing can find them, and they count."""
    scored: int
    """Detections of the ground truth's classes."""
    unknown_class: int
    """Detections of other classes: left out."""
    unknown_video: int
    """Of the scored ones, how many are on videos outside the subset: false positives all."""
    tied: int
    """Of the scored ones, how many share their score with another of their class."""
    left_out: tuple[str, ...]
    """Classes that were left out of ground truth and detections because they were named."""
    suspicions: Suspicions
    result: MeanAveragePrecision
    """Equal scores ranked as public evaluators do on this processor."""
    stable: MeanAveragePrecision
    """Equal scores ranked the same way on every machine (the later row first); equal to `result` where nothing is
    tied."""


def parse_tiou(text: str) -> tuple[float, ...]:
    """Understand tIoU thresholds: `0.3:0.7:0.1` (start, end, step; the end is included) or `0.5,0.75,0.95`.

    Decimal arithmetic: the thresholds are .3, .4 ... as written and not .39999999999999997.

    Raises:
        ValueError: not such a text, or a threshold outside (0, 1].
    """
    try:
        values = _expand([Decimal(part) for part in text.split(":")]) if ":" in text else _listed(text)
    except (InvalidOperation, ValueError) as error:
        raise UserError(
            f"tIoU thresholds {text!r} are not start:end:step or a comma-separated list. "
            "Write 0.3:0.7:0.1 for THUMOS14, 0.5:0.95:0.05 for ActivityNet."
        ) from error
    if not all(value.is_finite() and 0 < value <= 1 for value in values):
        raise UserError(f"tIoU thresholds {text!r} leave (0, 1]. Write fractions: 0.5, not 50.")
    return tuple(float(value) for value in values)


def score_files(
    detections: str | Path | Document,
    ground_truth: str | Path | Document,
    *,
    subset: str = "test",
    tiou: Sequence[float] = THUMOS14_TIOU,
    leave_out: Sequence[str] = (),
) -> ScoreReport:
    """Score a detections file against one subset of a ground-truth file, both ActivityNet JSON; ground truth may be a table.

    Args:
        detections: a path, a URL, or what was read from one.
        ground_truth: the same.
        subset: in any case and any of the usual words.
        tiou: thresholds in (0, 1].
        leave_out: classes that count on neither side, such as THUMOS14's `Ambiguous`.

    Raises:
        UserError: a file is malformed, the subset or a class to be left out is not there, or the files share no video or
            no class.
        StorageError: a file is not there or cannot be reached.
    """
    truth_file = ground_truth if isinstance(ground_truth, Document) else read_annotations(ground_truth)
    table_file = detections if isinstance(detections, Document) else read_document(detections)
    videos = parse_ground_truth(truth_file.content, truth_file.url)
    truth = ground_truth_table(without_classes(videos, leave_out, truth_file.url), subset, truth_file.url)
    table = kept_classes(parse_detections(table_file.content, table_file.url), leave_out)
    table, changed = respelt(table, frozenset(truth.videos), {video.video for video in videos})
    check_common(table, truth, table_file, truth_file)
    result = evaluate_detections(table, truth, tiou)
    known = index_of(table.labels, truth.labels)[table.label] >= 0  # [N]
    suspicions = find_suspicions(table, truth, changed, stated_durations(videos, truth))
    tied = tied_detections(table, truth)
    return ScoreReport(
        ground_truth=_scored_file(truth_file),
        detections=_scored_file(table_file),
        subset=normal_subset(subset),
        videos=len(truth.videos),
        instances=len(truth),
        empty_instances=suspicions.empty_instances,
        scored=int(known.sum()),
        unknown_class=int((~known).sum()),
        unknown_video=suspicions.foreign_video_detections,
        tied=tied,
        left_out=tuple(leave_out),
        suspicions=suspicions,
        result=result,
        stable=evaluate_detections(table, truth, tiou, ties="stable") if tied else result,
    )


def piped_document(stream: BinaryIO) -> Document:
    """A JSON document from a pipe. Raises `UserError` as `read_document` does."""
    name, data = "standard input", stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"{name} holds more than {MAX_BYTES} bytes: split it by video")
    return Document(name, parse_json(data, name), hashlib.sha256(data).hexdigest())


def score_json(report: ScoreReport) -> str:
    """The report as one JSON object; mAP as fractions with all digits."""
    document: dict[str, Any] = {
        "ground_truth": vars(report.ground_truth)
        | {"subset": report.subset, "videos": report.videos, "instances": report.instances}
        | {"empty_instances": report.empty_instances, "left_out": list(report.left_out)},
        "detections": vars(report.detections)
        | {"scored": report.scored, "unknown_class": report.unknown_class}
        | {"unknown_video": report.unknown_video, "tied": report.tied},
        "suspicions": report.suspicions.to_dict(),
        **report.result.to_dict(),
        "stable_order": {"mAP": report.stable.per_tiou.tolist(), "average_mAP": report.stable.average},
    }
    return json.dumps(document, indent=1)


def score_table(report: ScoreReport) -> Group:
    """The report for a terminal, in percent: what was compared, one row a class, the means, and what to beware of."""
    table = Table(title="mAP over tIoU, %", title_justify="left", show_footer=True)
    result = report.result
    table.add_column("class", footer="mean")
    table.add_column("instances", justify="right", footer=str(report.instances))
    for threshold, mean in zip(result.tiou, result.per_tiou, strict=True):
        table.add_column(f"@{threshold:g}", justify="right", footer=f"{100 * mean:.2f}")
    table.add_column("average", justify="right", footer=f"{100 * result.average:.2f}", style="bold")
    for label, count, row in zip(result.labels, result.instances, result.per_class, strict=True):
        cells = [f"{100 * value:.2f}" for value in (*row, row.mean())]
        table.add_row(Text(label), str(count), *cells)
    return Group(*(Text(line) for line in _header(report)), table, *(Text(line) for line in _remarks(report)))


def _header(report: ScoreReport) -> list[str]:
    truth = report.ground_truth
    left_out = f", without {', '.join(report.left_out)}" if report.left_out else ""
    return [
        f"ground truth  {truth.name}  subset {report.subset}: {report.videos} videos, {report.instances} instances, "
        f"{len(report.result.labels)} classes{left_out}  (sha256 {truth.sha256[:12]})",
        f"detections    {report.detections.name}: {report.scored} scored  (sha256 {report.detections.sha256[:12]})",
    ]


def _remarks(report: ScoreReport) -> list[str]:
    remarks = list(report.suspicions.remarks())
    if report.tied:
        remarks.append(
            f"{report.tied} detections share a score with another of their class. The figures follow the order that "
            "public evaluators give them on this processor; in an order that is the same everywhere the average is "
            f"{100 * report.stable.average:.2f}."
        )
    return remarks


def _expand(parts: list[Decimal]) -> list[Decimal]:
    start, end, step = parts
    if step < MIN_STEP or not start <= end <= 1:
        raise ValueError(f"the step must be {MIN_STEP} or more, and the end between the start and 1")
    return [start + step * index for index in range(int((end - start) / step) + 1)]


def _listed(text: str) -> list[Decimal]:
    return [Decimal(part) for part in text.split(",")]


def _scored_file(document: Document) -> ScoredFile:
    return ScoredFile(name=document.url.rsplit("/", 1)[-1], sha256=document.sha256)
