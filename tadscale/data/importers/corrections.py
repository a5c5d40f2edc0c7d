"""The one place where known faults of published annotations are corrected, and counted by kind.

| fault | what is done |
|---|---|
| a line twice | kept once |
| no length, or an end before the start | left out |
| partly outside the video | clipped to it |
| wholly outside the video | left out |
| a stated length that is none | taken as unknown |
| no segment of a video that can be used | the video is left out: the action is somewhere, and it is no background |
| a label of a whole video that is missing or broken | the video is left out |
| a whole subset without segments | its annotations are withheld: the videos are left out, for they are not background |

How long a video lasts, the data set states, or its file says where there is one; where neither does, nothing is clipped.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tadscale.data.annotations import AnnotatedVideo
from tadscale.data.describe import REPORTED_S
from tadscale.data.importers.collected import WHOLE, Collected
from tadscale.errors import UserError
from tadscale.segments import Segment

TWICE = "segments written twice, kept once"
EMPTY = "segments without length, left out"
REVERSED = "segments that end before they start, left out"
CLIPPED = "segments partly outside their video, clipped"
OUTSIDE = "segments wholly outside their video, left out"
NO_LENGTH = "stated lengths that are none, not believed"
UNMEASURED = "videos that cannot be read, whose label lasts as long as they do, left out"
UNUSABLE = "videos none of whose segments can be used, left out"
WITHHELD = "videos of a subset whose annotations are not public, left out"


def correct(collected: Collected, durations_s: Mapping[str, float]) -> tuple[AnnotatedVideo, ...]:
    """The videos as they can be trained on and scored; what was corrected is added to `collected.corrections`.

    Args:
        collected: what the files say.
        durations_s: measured lengths of videos, by key, for those whose length the files do not state.

    Raises:
        UserError: no video has a segment, or a label lasts as long as a video whose length nothing says.
    """
    videos = list(collected.videos())
    labelled = {video.subset for video in videos if video.segments}
    if not labelled:
        raise UserError(f"none of the {len(videos)} videos has a segment: files without annotations, of a test set?")
    return tuple(_corrected(videos, labelled, durations_s, collected.corrections))


def _corrected(
    videos: list[AnnotatedVideo],
    labelled: set[str],
    durations_s: Mapping[str, float],
    corrections: dict[str, list[str]],
) -> Iterator[AnnotatedVideo]:
    for video in videos:
        if video.subset not in labelled:
            corrections[WITHHELD].append(f"{video.video} ({video.subset})")
            continue
        duration_s = video.duration_s
        if duration_s is not None and not duration_s > 0:
            corrections[NO_LENGTH].append(f"{video.video}: {duration_s:g} s")
            duration_s = None
        duration_s = durations_s.get(video.video) if duration_s is None else duration_s
        if duration_s is None and any(segment.end_s == WHOLE for segment in video.segments):
            _check_measured(video.video, durations_s)
            corrections[UNMEASURED].append(video.video)
            continue
        segments = tuple(_usable(replace(video, duration_s=duration_s), corrections))
        if video.segments and not segments:
            corrections[UNUSABLE].append(video.video)
            continue
        yield replace(video, duration_s=duration_s, segments=segments)


def _check_measured(video: str, durations_s: Mapping[str, float]) -> None:
    if not durations_s:
        raise UserError(
            f"{video}: its label lasts as long as the video, and the files do not say how long that is: give the folder of "
            "the videos (--videos)"
        )


def _usable(video: AnnotatedVideo, corrections: dict[str, list[str]]) -> Iterator[Segment]:
    for segment, times in Counter(video.segments).items():
        what = f"{video.video}: {segment.label!r} at [{segment.start_s:g}, {segment.end_s:g}] s"
        corrections[TWICE] += [what] * (times - 1)
        inside, kind = _inside(segment, math.inf if video.duration_s is None else video.duration_s)
        if kind:
            corrections[kind].append(f"{what}{f' of {video.duration_s:.2f} s' if video.duration_s else ''}")
        if inside:
            yield inside


def _inside(segment: Segment, duration_s: float) -> tuple[Segment | None, str]:
    """What of a segment is inside a video, and the kind of the correction; empty if there is none to speak of."""
    if segment.end_s <= segment.start_s:
        return None, EMPTY if segment.end_s == segment.start_s else REVERSED
    start_s, end_s = max(segment.start_s, 0.0), min(segment.end_s, duration_s)
    if end_s <= start_s:
        return None, OUTSIDE
    cut_s = max(start_s - segment.start_s, 0.0 if segment.end_s == WHOLE else segment.end_s - end_s)
    return Segment(segment.label, start_s, end_s), CLIPPED if cut_s > REPORTED_S else ""
