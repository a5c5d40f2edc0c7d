"""Videos small enough to lie inside a page."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tadscale.data.decode import probe_video
from tadscale.data.quarantine import DataError
from tadscale.data.transcode import Transcode, transcode_video
from tadscale.report.timeline import Timeline

SIZE = Transcode(fps=10, short_side=180, crf=30)  # some 20 kB a second of real video
BUDGET_S = 600.0  # of video in one page: 10 to 15 MB, which an artifact store shows without complaint


def with_previews(timelines: Iterable[Timeline], read: Callable[[str], bytes]) -> Iterator[Timeline]:
    """Put the videos into the timelines, in their order, until `BUDGET_S` is full; the others keep their axis alone.

    Args:
        timelines: those to be looked at first come first.
        read: the encoded video of that name. A `DataError` of it, or of decoding, leaves the video out.
    """
    left_s = BUDGET_S
    for timeline in timelines:
        if timeline.duration_s <= left_s:
            try:
                timeline = replace(timeline, preview=small_copy(read(timeline.video)))
                left_s -= timeline.duration_s
            except DataError:
                pass  # a bad video is on record where it was detected in
        yield timeline


def small_copy(video: bytes) -> bytes:
    """A video as H.264 in MP4, which every browser plays, at the size of a thumbnail.

    Raises:
        UndecodableVideo: it cannot be decoded to its end.
    """
    return transcode_video(video, probe_video(video), SIZE)
