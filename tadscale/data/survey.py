"""Finding out what lies where in a video's file, by watching a demuxer read it: the same for every container.

What FFmpeg reads when it opens the file, and when it seeks, beyond the pictures that it was sent for, is the head: an MP4's
`moov` at either end, Matroska's cues. Groups of pictures begin where the demuxer says that a key frame lies.
"""

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.container import UndecodableVideo, open_container, read_packets, seconds_of, times_of_display
from tadscale.data.layout import BLOCK_BYTES, VideoLayout, digest_blocks, encode_layout

WHOLE_BYTES = 4 << 20
"""What is no longer is always fetched whole: as 16 blocks in two or three requests it would take no less time."""
TRIALS = (0.35, 0.65, 0.95)  # where in the file seeking is tried
MAX_HEAD_SHARE = 0.25  # of the file; MPEG-TS and damaged indices make a demuxer look all over it

Range = tuple[int, int]


class _Group(NamedTuple):
    """A key frame, and what follows it."""

    first: int
    end: int
    time_s: float


def survey_video(video: bytes) -> bytes:
    """The layout of a file as the manifest keeps it; empty if the file is to be fetched whole.

    That is so where it is short, where the demuxer does not say when and where its key frames are, or where seeking reads
    more than the head and the group sought, as without an index (MPEG-TS, fragmented MP4): it is tried in three places.
    """
    if len(video) <= WHOLE_BYTES:
        return b""
    try:
        layout = _survey(video)
    except UndecodableVideo:  # damaged somewhere behind what was probed, and no reason to refuse the rest
        layout = None
    return b"" if layout is None else encode_layout(layout)


def _survey(video: bytes) -> VideoLayout | None:
    file = _Watched(video)
    with open_container(file) as (container, stream):
        head = file.read_since()
        groups = _groups(container, stream)
    if not groups:
        return None
    for share in TRIALS:
        outside = _try_seek(file, groups, int(share * len(groups)))
        if outside is None or (share != TRIALS[0] and _bytes_of(_without(outside, head)) > BLOCK_BYTES):
            return None
        head = _merged([*head, *outside])
    if _bytes_of(head) > MAX_HEAD_SHARE * len(video):
        return None
    joined = _joined(groups)
    return VideoLayout(
        size=len(video),
        block_bytes=BLOCK_BYTES,
        head=np.array(head, np.int64).reshape(-1, 2),
        groups=np.array([group[:2] for group in joined], np.int64).reshape(-1, 2),
        keys_us=_microseconds([group.time_s for group in joined]),
        digests=digest_blocks(video, BLOCK_BYTES),
    )


class _Watched(io.BytesIO):
    """Knows which bytes were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._read: list[Range] = []

    def read(self, size: int | None = -1, /) -> bytes:
        first = self.tell()
        data = super().read(size)
        self._read.append((first, first + len(data)))
        return data

    def read_since(self) -> list[Range]:
        """What was read since the last call."""
        ranges, self._read = _merged(self._read), []
        return ranges


def _groups(container: Any, stream: Any) -> list[_Group]:
    """A group goes on until the next one begins: what lies between, such as sound, is read with it. None where times or
    places are missing, or not in order."""
    starts: list[tuple[int, float]] = []
    end = 0
    for packet in read_packets(container, stream):
        if not packet.size:
            continue
        if packet.pos is None or packet.pos < 0 or not times_of_display(container, packet):
            return []
        if packet.is_keyframe and not packet.is_discard:
            starts.append((packet.pos, seconds_of(stream, packet.pts)))
        end = max(end, packet.pos + packet.size)
    ends = [first for first, _ in starts[1:]] + [end]
    groups = [_Group(first, end, time_s) for (first, time_s), end in zip(starts, ends, strict=True)]
    in_order = all(group.first < group.end for group in groups) and sorted(groups, key=_time_of) == groups
    return groups if in_order and groups and groups[0].time_s >= 0 else []


def _time_of(group: _Group) -> float:
    return group.time_s


def _try_seek(file: _Watched, groups: Sequence[_Group], nth: int) -> list[Range] | None:
    """What is read outside of a group to come to its key frame; None if that is not where seeking leads.

    The group before is as good: with B-frames and a variable rate FFmpeg takes that one for the first pictures of an MP4's
    group, whose times it compares with the decoder's.
    """
    before, group = groups[max(nth - 1, 0)], groups[nth]
    with open_container(file) as (container, stream):
        file.read_since()
        container.seek((stream.start_time or 0) + math.ceil(group.time_s / stream.time_base), stream=stream)
        packet = next(read_packets(container, stream))
        if not packet.is_keyframe or packet.pos not in (before.first, group.first):
            return None
    # FFmpeg's buffer reads on beyond the packet, and Matroska's clusters begin before the frame that is sought.
    return _without(file.read_since(), [(before.first - BLOCK_BYTES, group.end + BLOCK_BYTES)])


def _joined(groups: Sequence[_Group]) -> list[_Group]:
    """Groups of at least a block's size, but the last: less cannot be fetched, and codecs without motion have only key
    frames."""
    joined = [groups[0]]
    for group in groups[1:]:
        last = joined[-1]
        if last.end - last.first < BLOCK_BYTES:
            joined[-1] = last._replace(end=group.end)
        else:
            joined.append(group)
    return joined


def _microseconds(times_s: Sequence[float]) -> NDArray[np.int64]:
    return np.floor(np.array(times_s, np.float64) * 1e6 + 0.5).astype(np.int64)


def _merged(ranges: Sequence[Range]) -> list[Range]:
    """In order, and none touching another."""
    merged: list[Range] = []
    for first, end in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        elif first < end:
            merged.append((first, end))
    return merged


def _without(ranges: Sequence[Range], taken: Sequence[Range]) -> list[Range]:
    """What of ranges is not in others."""
    for start, stop in taken:
        parts = [part for first, end in ranges for part in ((first, min(end, start)), (max(first, stop), end))]
        ranges = [(first, end) for first, end in parts if first < end]
    return list(ranges)


def _bytes_of(ranges: Sequence[Range]) -> int:
    return sum(end - first for first, end in ranges)
