"""From a video and its annotation to a row of the manifest: what is accepted, repaired and refused."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from tadscale.data.annotations import parse_ground_truth
from tadscale.data.decode import VideoInfo, probe_video
from tadscale.data.keys import fault_of_key
from tadscale.data.limits import fault_of_row
from tadscale.data.manifest import VideoRow
from tadscale.data.quarantine import DataError

SUBSETS = ("train", "validation", "test")
REPORTED_S = 0.01  # annotations are rounded: a segment this little past the end is clipped without a word


class Repair(NamedTuple):
    """A fault of an annotation that was mended."""

    key: str
    what: str


class Segments(NamedTuple):
    """Columns of one video's annotated actions."""

    labels: tuple[str, ...]
    start_s: tuple[float, ...]
    end_s: tuple[float, ...]


def describe(
    key: str,
    video: bytes,
    annotation: Mapping[str, Any],
    url: str,
    video_offset: int,
    info: VideoInfo | None = None,
) -> tuple[VideoRow, list[Repair]]:
    """The manifest's row of one video that lies at `video_offset` of the shard `url`; `info` if it was probed before.

    Raises:
        DataError: the video holds no picture, or its annotation cannot be trusted.
    """
    if fault := fault_of_key(key):
        raise DataError(fault)
    info = info or probe_video(video)
    subset, segments, repairs = read_annotation(key, annotation, info.duration_s)
    row = VideoRow(
        url=url,
        key=key,
        subset=subset,
        video_offset=video_offset,
        video_bytes=len(video),
        video_sha256=hashlib.sha256(video).hexdigest(),
        **{name: value for name, value in info._asdict().items() if name in VideoRow._fields},
        **segments._asdict(),
    )
    if fault := fault_of_row(row._asdict()):
        raise DataError(fault)
    return row, repairs


def read_annotation(key: str, annotation: Mapping[str, Any], duration_s: float) -> tuple[str, Segments, list[Repair]]:
    """The subset and the annotated actions of a video; the actions are clipped to its length.

    A video without any action is background. An action that is written twice is one. A video with an action that lies
    wholly outside it, or that ends before it starts, is refused: the action is somewhere, and training would teach it as
    background.

    Raises:
        DataError: an action is unusable, or the annotation is not in ActivityNet's form.
    """
    try:
        [entry] = parse_ground_truth({"database": {key: annotation}}, "its annotation")
    except ValueError as error:
        raise DataError(str(error)) from error
    if entry.subset not in SUBSETS:
        raise DataError(f"its annotation: subset is {annotation.get('subset')!r}, none of {SUBSETS}")
    repairs, kept = [], []
    for action, times in Counter(entry.segments).items():
        what = f"{action.label!r} at [{action.start_s:g}, {action.end_s:g}] s"
        if times > 1:
            repairs.append(Repair(key, f"{what} is written {times} times and was kept once"))
        start_s, end_s = max(action.start_s, 0.0), min(action.end_s, duration_s)
        if action.start_s == action.end_s:
            repairs.append(Repair(key, f"{what} has no length and was left out"))
        elif action.end_s < action.start_s:
            raise DataError(
                f"{what} ends before it starts: its times are swapped, or those of two actions are mixed up"
            )
        elif end_s <= start_s:
            raise DataError(
                f"{what}: nothing of it is inside the video, which lasts {duration_s:.2f} s: the annotation is wrong "
                "(times are seconds), or the file is cut short"
            )
        else:
            cut_s = max(start_s - action.start_s, action.end_s - end_s)
            if cut_s > REPORTED_S:
                repairs.append(Repair(key, f"{what}: {cut_s:.2f} s of it are outside the video and were cut off"))
            kept.append((action.label, start_s, end_s))
    return entry.subset, Segments(*(zip(*kept, strict=True) if kept else ((), (), ()))), repairs
