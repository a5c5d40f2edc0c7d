"""Fetching what a window needs of its video: head and groups of pictures where that is little, else all of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from tadscale.data.block_cache import BlockCache
from tadscale.data.blocks import BlockReader, FetchCount, Tally
from tadscale.data.container import Video
from tadscale.data.layout import VideoLayout, decode_layout
from tadscale.data.manifest import VideoRow
from tadscale.data.partial_file import PartialFile
from tadscale.data.storage import read_range

WHOLE_SHARE = 0.5
"""A window that needs more of its video than this gets all of it, in one request."""
BEFORE_BYTES = 1 << 10  # where a demuxer goes for a key frame: Matroska's cluster begins some bytes before it
BEHIND_BYTES = 32 << 10  # FFmpeg's buffer reads on beyond what it was asked for
# With B-frames a picture comes out some packets after its own, and the next one says when it is over: 16 pictures, the most
# that H.264 may reorder, are half a second at 30 a second. A window that ends so close to a key frame begins the next group.
REORDER_US = 500_000
NEXT_KEY_BYTES = 256 << 10  # of that group, for its key frame


class WindowFetcher:
    """Gives decoders the bytes of windows, and counts what that took.

    Args:
        cache: of the node, if there is one.
    """

    def __init__(self, cache: BlockCache | None = None) -> None:
        self._cache = cache
        self._tally = Tally()

    @property
    def count(self) -> FetchCount:
        """What it took so far."""
        return self._tally.count

    @contextmanager
    def loading(self, frames: int) -> Iterator[None]:
        """Count the time of a block that fetches and decodes, whether or not it succeeds.

        Args:
            frames: that the block decodes; they count if it does.
        """
        began_s = time.perf_counter()
        try:
            yield
            self._tally.add(frames=frames)
        finally:
            self._tally.add(load_us=max(1, round((time.perf_counter() - began_s) * 1e6)))  # 0 says: remembered

    @contextmanager
    def open(self, row: VideoRow, first_s: float, last_s: float) -> Iterator[Video]:
        """The file of a video, to be decoded from one time to another.

        Args:
            row: which video.
            first_s: of the first picture, seconds from the stream's start.
            last_s: of the last one.

        Raises:
            DataError: the video, or the layout that the manifest has of it, is damaged.
            StorageError: the storage cannot be reached or refuses. Both also on leaving, whatever the decoder made of it.
        """
        layout = decode_layout(row.layout, row.video_bytes) if row.layout else None
        if layout is None:
            self._tally.add(needed=row.video_bytes)
            yield self._whole(row)
            return
        self._tally.add(needed=_bytes_of(touched_groups(layout, first_s, last_s)))
        blocks = foreseen_blocks(layout, first_s, last_s)
        if len(blocks) > WHOLE_SHARE * layout.blocks:
            yield self._whole(row)
            return
        file = PartialFile(BlockReader(row.url, row.video_offset, layout, self._tally, self._cache), blocks)
        try:
            yield file
        finally:
            if file.fault is not None:
                raise file.fault

    def _whole(self, row: VideoRow) -> bytes:
        digest = bytes.fromhex(row.video_sha256)
        data = self._cache.get(digest) if self._cache is not None else None
        if data is not None:
            self._tally.add(cached=len(data))
            return data
        data = read_range(
            row.url,
            row.video_offset,
            row.video_bytes,
            row.video_sha256,
            answered=self._tally.answered,
            retried=self._tally.retried,
        )
        if self._cache is not None:
            self._cache.put(digest, data)
        return data


def touched_groups(layout: VideoLayout, first_s: float, last_s: float) -> NDArray[np.int64]:
    """`[n, 2]` bytes of the groups whose pictures are shown from one time to another: from the key frame at or before the
    first."""
    first, last = (int(np.searchsorted(layout.keys_us, time_s * 1e6, "right")) for time_s in (first_s, last_s))
    return layout.groups[max(first - 1, 0) : max(last, 1)]


def foreseen_blocks(layout: VideoLayout, first_s: float, last_s: float) -> list[int]:
    """The blocks that a demuxer and a decoder are going to read for the pictures from one time to another."""
    groups = touched_groups(layout, first_s, last_s)
    ends = last_s * 1e6 + REORDER_US
    runs_on = np.searchsorted(layout.keys_us, ends, "right") > np.searchsorted(layout.keys_us, last_s * 1e6, "right")
    behind = NEXT_KEY_BYTES if runs_on else BEHIND_BYTES
    first, end = int(groups[0, 0]) - BEFORE_BYTES, int(groups[-1, 1]) + behind
    return layout.blocks_of([(max(first, 0), end), *layout.head.tolist()])


def _bytes_of(ranges: NDArray[np.int64]) -> int:
    return int((ranges[:, 1] - ranges[:, 0]).sum())
