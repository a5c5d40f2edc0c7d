"""What a report is of: one ground truth, and the detections of one or several detectors, out of files or a run's folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tadscale.data.annotations import (
    AnnotatedVideo,
    Document,
    ground_truth_table,
    normal_subset,
    parse_detections,
    parse_ground_truth,
    read_annotations,
    read_document,
)
from tadscale.data.faults import StorageError
from tadscale.data.storage import join, list_folders
from tadscale.errors import UserError, nearest
from tadscale.metrics.tables import DetectionTable, GroundTruth, index_of
from tadscale.report.video_names import respelt

EVALUATION, SCORES, GROUND_TRUTH = "evaluation", "scores.json", "ground_truth.json"
"""Where a run leaves what a report needs: beside them lies `NAME.json` for each detector that the scores name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Detectors on one ground truth."""

    detections: Mapping[str, DetectionTable]
    """By the detector's name."""
    ground_truth: GroundTruth
    duration_s: NDArray[np.float64]
    """`[videos]` length of each video of the ground truth, NaN where the file does not say."""
    respelt: Mapping[str, Mapping[str, str]]
    """By the detector's name: how its file calls videos, and what the ground truth calls them, where these differ."""
    source: str
    """The ground truth in a sentence: file, digest, subset, and how much there is of it."""


def read_files(
    detections: Sequence[str], ground_truth: str, *, subset: str = "test", leave_out: Sequence[str] = ()
) -> Inputs:
    """Read detections files and the ground truth that they share, all ActivityNet JSON; ground truth may be a table.

    Args:
        detections: paths or URLs; a detector is called by its file's name.
        ground_truth: a path or URL.
        subset: in any case and any of the usual words.
        leave_out: classes that count on neither side.

    Raises:
        UserError: a file is malformed, the subset or a class to be left out is not there, or files share no video or class.
        StorageError: a file is not there or cannot be reached.
    """
    document = read_annotations(ground_truth)
    videos = without_classes(parse_ground_truth(document.content, document.url), leave_out, document.url)
    truth = ground_truth_table(videos, subset, document.url)
    tables, respelt_videos = {}, {}
    for name, url in zip(_names(detections), detections, strict=True):
        found = read_document(url)
        table = kept_classes(parse_detections(found.content, found.url), leave_out)
        tables[name], respelt_videos[name] = respelt(table, frozenset(truth.videos), {video.video for video in videos})
        check_common(tables[name], truth, found, document)
    return Inputs(
        detections=tables,
        ground_truth=truth,
        duration_s=stated_durations(videos, truth),
        respelt=respelt_videos,
        source=f"{PurePosixPath(document.url).name} (sha256 {document.sha256[:12]}), {_extent(truth, subset)}",
    )


def read_run(url: str, *, subset: str | None = None, leave_out: Sequence[str] = ()) -> tuple[Inputs, tuple[float, ...]]:
    """Read what a finished run's evaluation left, and the thresholds that it was scored at.

    Args:
        url: the run's folder, `STORAGE/NAME`.
        subset: the one that is asked for; by default that of the evaluation, which left nothing of any other.
        leave_out: classes that count on neither side.

    Raises:
        UserError: it holds no scores, or no ground truth, was evaluated on another subset, or lacks a class to be left out.
        StorageError: it cannot be reached.
    """
    if url.endswith(".json"):
        raise UserError(
            f"{url} alone is compared with nothing: name the ground truth's file last, or runs' folders and no file"
        )
    folder = join(url, EVALUATION)
    try:
        scores = read_document(join(folder, SCORES)).content
        truth = read_document(join(folder, GROUND_TRUTH))
    except StorageError as error:
        raise UserError(
            f"{url} is no folder of an evaluated run: {error}. Name STORAGE/NAME of a finished job; of a run from before "
            "evaluation kept its ground truth name the files: DETECTIONS.json ... GROUND_TRUTH.json."
        ) from error
    [evaluated] = {video.subset for video in parse_ground_truth(truth.content, truth.url)}
    if subset is not None and normal_subset(subset) != evaluated:
        raise UserError(
            f"{url} was evaluated on the subset {evaluated!r} and holds nothing of {subset!r}: leave out --subset, or name "
            "files of detections and the ground truth's"
        )
    files = [join(folder, f"{name}.json") for name in scores]
    inputs = read_files(files, truth.url, subset=evaluated, leave_out=leave_out)
    return inputs, tuple(next(iter(scores.values()))["tiou"])


def are_runs(sources: Sequence[str]) -> bool:
    """Whether sources are runs, and not detections with their ground truth. Raises `StorageError`."""
    return len(sources) == 1 or any(map(list_folders, sources))


def read_runs(
    urls: Sequence[str], *, subset: str | None = None, leave_out: Sequence[str] = ()
) -> tuple[Inputs, tuple[float, ...]]:
    """Read what one or several runs left, as `read_run` does; of several each detector is called `RUN/NAME`.

    Returns:
        The detectors, and the thresholds that the first run was scored at.

    Raises:
        UserError: two runs have not the same ground truth; else see `read_run`.
        StorageError: a run cannot be reached.
    """
    runs = {url.rstrip("/"): read_run(url, subset=subset, leave_out=leave_out) for url in urls}
    (first, (inputs, tiou)), *others = runs.items()
    if not others:
        return inputs, tiou
    for url, (other, _) in others:
        if _instances(other.ground_truth) != _instances(inputs.ground_truth):
            raise UserError(
                f"{first} and {url} were not scored on the same ground truth, so their figures do not compare. Name one for "
                f"all: {join(first, EVALUATION)}/NAME.json {join(url, EVALUATION)}/NAME.json GROUND_TRUTH.json"
            )
    names = dict(zip(runs, _names(list(runs)), strict=True))
    detectors = [(url, name) for url, (one, _) in runs.items() for name in one.detections]
    tables = {f"{names[url]}/{name}": runs[url][0].detections[name] for url, name in detectors}
    spellings = {f"{names[url]}/{name}": runs[url][0].respelt[name] for url, name in detectors}
    return replace(inputs, detections=tables, respelt=spellings), tiou


def stated_durations(videos: Iterable[AnnotatedVideo], truth: GroundTruth) -> NDArray[np.float64]:
    """`[videos]` length in seconds of each video of the ground truth, NaN where its entry states none."""
    stated = {video.video: np.nan if video.duration_s is None else video.duration_s for video in videos}
    return np.array([stated[video] for video in truth.videos], np.float64)


def check_common(table: DetectionTable, truth: GroundTruth, detections: Document, ground_truth: Document) -> None:
    """Refuse files that share no video or no class: they would score 0 without a word. No detection at all is no mistake.

    Raises:
        UserError: they share none.
    """
    if not len(truth):
        raise UserError(
            f"{ground_truth.url}: the subset has {len(truth.videos)} videos and no segment: nothing to find"
        )
    for what, names, known in (("video", table.videos, truth.videos), ("class", table.labels, truth.labels)):
        if len(table) and not set(names) & set(known):
            raise UserError(
                f"{detections.url} and {ground_truth.url} share no {what}: {names[:3]} there, {known[:3]} here (first "
                "three). Classes must be equal to the letter, videos up to folder, suffix and ActivityNet's `v_`: is it "
                "another subset?"
            )


def without_classes(videos: Iterable[AnnotatedVideo], labels: Sequence[str], source: str) -> list[AnnotatedVideo]:
    """The ground truth without the instances of some classes.

    Raises:
        UserError: a class is nowhere in it, in whatever subset.
    """
    known = list(videos)
    there = {segment.label for video in known for segment in video.segments}
    for label in labels:
        if label not in there:
            raise UserError(f"{source} has no class {label!r} to leave out: {nearest(label, there)}")
    return [
        replace(video, segments=tuple(segment for segment in video.segments if segment.label not in labels))
        for video in known
    ]


def kept_classes(table: DetectionTable, left_out: Sequence[str]) -> DetectionTable:
    """The detections without those of some classes."""
    rows = index_of(table.labels, left_out)[table.label] < 0  # [N]
    return replace(
        table,
        video=table.video[rows],
        label=table.label[rows],
        segments_s=table.segments_s[rows],
        score=table.score[rows],
    )


def _instances(truth: GroundTruth) -> tuple[set[str], list[tuple[str, str, float, float]]]:
    """Its videos, and what is in them, in an order that does not depend on the file's."""
    columns = zip(truth.video, truth.label, truth.segments_s.tolist(), strict=True)
    return set(truth.videos), sorted((truth.videos[v], truth.labels[c], *segment) for v, c, segment in columns)


def _names(urls: Sequence[str]) -> Sequence[str]:
    """The names of files without suffix, or of runs; all of their URLs where two are called alike."""
    names = [PurePosixPath(url).name.removesuffix(".json") for url in urls]
    return names if len(set(names)) == len(names) else urls


def _extent(truth: GroundTruth, subset: str) -> str:
    return f"subset {normal_subset(subset)}: {len(truth.videos)} videos, {len(truth)} instances, {len(truth.labels)} classes"
