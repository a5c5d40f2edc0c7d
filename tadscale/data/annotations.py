"""ActivityNet JSON, as found in the wild: ground truth in, detections in and out.

Ground truth is `{"database": {VIDEO: {"subset", "duration", "annotations": [{"label", "segment": [start_s,
end_s]}]}}}`, detections are `{"results": {VIDEO: [{"label", "segment", "score"}]}}`. Published files write numbers as
strings, call a subset `Test`, `testing` or `test`, leave the duration out, and hold segments of no length. All of that
is read. What cannot mean anything (NaN, no label, one number for a segment) is refused with its place.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tadscale.data.csv_text import Cell, parse_csv
from tadscale.data.json_text import parse_json, read_annotation_bytes
from tadscale.data.keys import is_unicode, same_key
from tadscale.errors import UserError, nearest
from tadscale.metrics.tables import DetectionTable, GroundTruth, index_of
from tadscale.segments import Segment

SHOWN = 60
"""Characters of a value that an error quotes."""
TABLES = (".csv", ".tsv")
"""How files of tables end; all others are JSON."""
SUBSET_NAMES = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}
"""What published files call the subsets besides train, validation and test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatedVideo:
    """The ground truth of one video."""

    video: str
    subset: str
    """Lower case: train, validation, test, or what the file calls it."""
    duration_s: float | None
    """None where the file does not say."""
    segments: tuple[Segment, ...]
    """In the file's order, those without length included (`usable_segments` leaves them out)."""
    fps: float | None = None
    """Frames a second of the video; None where the file does not say, or says what is no rate."""

    @property
    def usable_segments(self) -> tuple[Segment, ...]:
        """The segments that end after they start: what can be trained on and found."""
        return tuple(segment for segment in self.segments if segment.end_s > segment.start_s)


class Document(NamedTuple):
    """A file that has been read: JSON, or a table as JSON."""

    url: str
    content: Any
    sha256: str


def read_document(url: str | Path) -> Document:
    """Read a JSON file from a path, `file://` or `s3://`.

    Raises:
        UserError: the file is not JSON, is too large, or holds a key twice in one object.
        StorageError: there is no such file, or it cannot be reached.
    """
    data = read_annotation_bytes(str(url))
    return Document(str(url), parse_json(data, str(url)), hashlib.sha256(data).hexdigest())


def read_database(url: str | Path) -> Mapping[str, Any]:
    """The entries of a ground-truth file, JSON or CSV, by the names it has for the videos, none of them understood yet.

    Raises:
        UserError: the file is not of this form, or two of its names are one video.
        StorageError: there is no such file, or it cannot be reached.
    """
    document = read_annotations(url)
    return _section(document.content, "database", document.url)


def read_annotations(url: str | Path) -> Document:
    """Read a ground-truth file: JSON, or a table, as the JSON that it stands for (`tadscale.data.csv_text`).

    Raises:
        UserError: the file is neither.
        StorageError: there is no such file, or it cannot be reached.
    """
    if not str(url).lower().endswith(TABLES):
        return read_document(url)
    data = read_annotation_bytes(str(url))
    return Document(str(url), {"database": parse_csv(data, str(url))}, hashlib.sha256(data).hexdigest())


def parse_ground_truth(document: Any, source: str) -> list[AnnotatedVideo]:
    """Understand ground truth that is already loaded.

    Args:
        document: what `json.load` returned.
        source: what to call it in errors, usually the file's name.

    Raises:
        UserError: an entry is malformed; says which.
    """
    videos = []
    for video, entry in _section(document, "database", source).items():
        place = f"{source}: database[{video!r}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("annotations"), list):
            raise UserError(
                f'{place} has no list "annotations". A video without any action says "annotations": []; another layout '
                "(THUMOS text files, one list for all videos) has to be converted first."
            )
        segments = tuple(
            Segment(*_labelled(annotation, f"{place}.annotations[{index}]"))
            for index, annotation in enumerate(entry["annotations"])
        )
        duration = entry.get("duration", entry.get("duration_second"))
        videos.append(
            AnnotatedVideo(
                video=_named(video, place),
                subset=normal_subset(entry.get("subset", "")),
                duration_s=None if duration is None else _number(duration, f"{place}.duration"),
                segments=segments,
                fps=_stated_fps(entry),
            )
        )
    return videos


def _stated_fps(entry: Mapping[str, Any]) -> float | None:
    """The frame rate that an entry states, as ActionFormer's annotations do; None where it states none that can be one."""
    try:
        fps = float(entry["fps"])
    except (LookupError, TypeError, ValueError):
        return None
    return fps if math.isfinite(fps) and fps > 0 else None


def normal_subset(name: object) -> str:
    """A subset's name as this project writes it: lower case, and one word for the many (`Training` is `train`)."""
    lower = str(name).strip().lower()
    return SUBSET_NAMES.get(lower, lower)


def ground_truth_table(videos: Iterable[AnnotatedVideo], subset: str, source: str) -> GroundTruth:
    """The videos of one subset as the evaluator's table.

    Args:
        videos: of a ground-truth file.
        subset: in any case and any of the usual words.
        source: what to call the videos in errors, usually the file's name.

    Raises:
        UserError: no video is in the subset.
    """
    known = list(videos)
    chosen = {video.video: video.segments for video in known if video.subset == normal_subset(subset)}
    if not chosen:
        if known and not any(video.subset for video in known):
            raise UserError(
                f"{source} names no subset for any video, and {subset!r} is asked for: name them there, or take what a run "
                "was scored on, STORAGE/NAME/evaluation/ground_truth.json"
            )
        counts = Counter(video.subset or "(none)" for video in known)
        subsets = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "no video at all"
        raise UserError(f"{source} has no video of subset {subset!r}; it has {subsets}: {nearest(subset, counts)}")
    return GroundTruth.from_segments(chosen)


def read_detections(url: str | Path) -> DetectionTable:
    """Read a detections file, rows in the file's order, which breaks ties. Raises as `read_document`,
    `parse_detections`."""
    document = read_document(url)
    return parse_detections(document.content, document.url)


def parse_detections(document: Any, source: str) -> DetectionTable:
    """Understand detections that are already loaded; arguments and errors as in `parse_ground_truth`."""
    results = _section(document, "results", source)
    rows = list(_scored_rows(results, source))
    videos = tuple(_named(video, f"{source}: results[{video!r}]") for video in results)
    labels = tuple(sorted({row[1] for row in rows}))
    return DetectionTable(
        videos=videos,
        labels=labels,
        video=index_of([row[0] for row in rows], videos),
        label=index_of([row[1] for row in rows], labels),
        segments_s=np.array([row[2:4] for row in rows], np.float64).reshape(-1, 2),
        score=np.array([row[4] for row in rows], np.float64),
    )


def detections_document(detections: DetectionTable) -> dict[str, Any]:
    """Detections as the JSON document that ActivityNet evaluators read; every video is in it, also one without any."""
    results: dict[str, list[dict[str, Any]]] = {video: [] for video in detections.videos}
    for row in detections.to_detections():
        segment = [row.start_s, row.end_s]
        results[row.video].append({"label": row.label, "score": row.score, "segment": segment})
    return {"version": "tadscale", "results": results, "external_data": {}}


def ground_truth_document(videos: Iterable[AnnotatedVideo]) -> dict[str, Any]:
    """Ground truth as the JSON document that ActivityNet evaluators read; what `parse_ground_truth` understands."""
    database = {}
    for video in videos:
        annotations = [{"label": label, "segment": [start_s, end_s]} for label, start_s, end_s in video.segments]
        facts = {"duration": video.duration_s, "fps": video.fps}
        known = {name: fact for name, fact in facts.items() if fact is not None}
        database[video.video] = {"subset": video.subset, **known, "annotations": annotations}
    return {"version": "tadscale", "database": database, "taxonomy": []}


def _section(document: Any, key: str, source: str) -> Mapping[str, Any]:
    """What stands under a key of the document, each video once; see `tadscale.data.keys` for what is one video."""
    section = document.get(key) if isinstance(document, Mapping) else None
    if not isinstance(section, Mapping):
        other = {"database": "results", "results": "database"}[key]
        swapped = isinstance(document, Mapping) and other in document
        hint = (
            f'It has "{other}": ground truth and detections seem to be swapped.'
            if swapped
            else "Pass ActivityNet JSON: ground truth has the key database, detections have the key results."
        )
        raise UserError(f'{source} has no object "{key}" at its top level. {hint}')
    refuse_twins(section, f"{source}: {key}")
    return section


def refuse_twins(names: Iterable[str], place: str) -> None:
    """Raise `UserError` where two names are one video; see `tadscale.data.keys`. `place` is what is indexed by them."""
    spelt: dict[str, str] = {}
    for name in names:
        video = same_key(name)
        if video in spelt:
            raise UserError(
                f"{place}[{spelt[video]!r}] and {place.rpartition(': ')[2]}[{name!r}] are one video: they differ in the "
                "suffix of a file or in how Unicode is composed; keep one. Two files of one name need another name each"
            )
        spelt[video] = name


def _named(video: str, place: str) -> str:
    """The key of a video. Raises `UserError` where no file and no report could say it."""
    if not is_unicode(video):
        raise UserError(f"{place} has half a character of Unicode in its name: rename the video, or leave it out")
    return same_key(video)


def _scored_rows(results: Mapping[str, Any], source: str) -> Iterator[tuple[str, str, float, float, float]]:
    for video, entries in results.items():
        if not isinstance(entries, list):
            raise UserError(
                f"{source}: results[{video!r}] is {type(entries).__name__}, expected a list of detections. "
                "A video without any says []."
            )
        for index, entry in enumerate(entries):
            place = f"{source}: results[{video!r}][{index}]"
            label, start_s, end_s = _labelled(entry, place)
            if "score" not in entry:
                raise UserError(f'{place} has no "score". Ground truth passed as detections looks like this.')
            yield same_key(video), label, start_s, end_s, _number(entry["score"], f"{place}.score")


def _labelled(entry: Any, place: str) -> tuple[str, float, float]:
    """Label, start and end of one annotation or detection."""
    label = entry.get("label") if isinstance(entry, Mapping) else None
    if not isinstance(label, str) or not label or not is_unicode(label):
        raise UserError(
            f"{place} has the label {_short(label)}, expected a name. Class numbers must be written as names, because two "
            "files rarely number them alike."
        )
    segment = entry.get("segment")
    if not isinstance(segment, list) or len(segment) != 2:
        raise UserError(f"{place} has the segment {_short(segment)}, expected [start, end] in seconds.")
    return label, _number(segment[0], f"{place}.segment[0]"), _number(segment[1], f"{place}.segment[1]")


def _number(value: Any, place: str) -> float:
    """A finite number, also one written as a string. A table's cell is told by its own place."""
    place = value.place if isinstance(value, Cell) else place
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{place} is {_short(value)}, expected a number (or one written as a string).") from error
    if not math.isfinite(number):
        raise UserError(
            f"{place} is {value!r}, expected a finite number. A model that diverged writes such: drop the entry, or "
            "repair what wrote it."
        )
    return number


def _short(value: Any) -> str:
    """What a file holds, for an error: an integer of 400 digits is none to print."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
