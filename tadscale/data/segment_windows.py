"""Training windows by what happens in a video: all of its segments, and a share of the rest.

Of a long video most windows of a tiling may be background, and a segment that is longer than the overlap of two windows may
be whole in none of them. Detection is no concern of this: there every video is tiled.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.manifest import Manifest
from tadscale.data.video_row import VideoRow
from tadscale.data.windows import WindowConfig, WindowTable, sampled_frames, tile

EDGE = 1e-6  # sampled frames: 1.1 s at 10 a second are 11.000000000000002
PLACES, BACKGROUND = 1, 2  # streams of the seed, apart from those of the plan's orders


class _Holder(NamedTuple):
    """A window that holds segments, and how far it may be moved."""

    video: int
    first: int
    """Earliest start at which it still holds them."""
    last: int
    """Latest one."""


def segment_windows(videos: Manifest, config: WindowConfig, seed: int) -> WindowTable:
    """Windows that hold every segment, and background: a pure function of its arguments.

    Of each labelled video (frames are sampled frames, L is a window's length):

    - A segment longer than L is tiled as a video is (see `tile`), together with `(1 - min_visible) / 2 * L` frames of what
      surrounds it on either side, as far as the video has them: its ends are seen beside what is around them, and it counts
      in each of these windows (unless `min_visible` is all but 1, and leaves no frame for that).
    - The others that lie wholly in none of those windows are held, each wholly, by the fewest windows that do: the earliest
      one begins a group, and takes in all others that fit. Where a window sits around its group is drawn.

    With P windows of that kind in a source, `round(P * background / (1 - background))` tiles that no segment touches are
    drawn as background, or as many as there are. Every video that would have no window gives one of them, should those be
    more; with a share of 0 it has none. Videos without labels are tiled, and their windows are all taken.

    Args:
        videos: with their segments; all of their rows are read.
        config: how they are cut; its `sampling` is not looked at.
        seed: of what is drawn.

    Returns:
        The windows by video and start; all count as labelled, of one source.

    Raises:
        UserError: see `tile`.
    """
    tiles, total = tile(videos, config), sampled_frames(videos, config)  # [W], [V]
    holders: list[_Holder] = []
    free = np.ones(len(tiles), np.bool_)  # [W], no segment touches it
    first_tile = np.searchsorted(tiles.video, np.arange(len(total) + 1)).tolist()
    for video, row in enumerate(videos.facts()):
        if not row.labelled:
            continue
        spans, frames = _spans(row, config, int(total[video])), int(total[video])
        holders += [_Holder(video, *room) for room in _rooms(spans, frames, config)]
        own = slice(first_tile[video], first_tile[video + 1])
        free[own] = ~_touched(tiles.start_frames[own], tiles.valid_frames[own], spans)
    held = np.array(holders, np.int64).reshape(-1, 3)  # [P, 3]
    taken = ~videos.column("labelled")[tiles.video]  # [W]
    taken[_background(videos, tiles, free & ~taken, held[:, 0], config.background, seed)] = True
    starts = held[:, 1] + (_uniform(seed, PLACES, len(held)) * (held[:, 2] - held[:, 1] + 1)).astype(np.int64)
    owners = np.concatenate([held[:, 0], tiles.video[taken]])
    starts = np.concatenate([starts, tiles.start_frames[taken]])
    return _table(owners, starts, np.minimum(total, config.frames), tiles)


def _table(
    video: NDArray[np.int64], starts: NDArray[np.int64], valid: NDArray[np.int64], tiles: WindowTable
) -> WindowTable:
    order = np.lexsort((starts, video))
    video, starts = video[order], starts[order]
    return WindowTable(
        video=video.astype(tiles.video.dtype),
        start_frames=starts.astype(tiles.start_frames.dtype),
        valid_frames=valid[video].astype(tiles.valid_frames.dtype),
        labelled=np.ones(len(video), np.bool_),
        source=np.zeros(len(video), np.int16),
    )


def _spans(row: VideoRow, config: WindowConfig, total: int) -> NDArray[np.int64]:
    """`[N, 2]` first frame and end of each segment of which something is in the video, in whole frames, by start."""
    frames = config.to_frames(row.segments_s)  # [N, 2]
    spans = np.stack([np.floor(frames[:, 0] + EDGE), np.ceil(frames[:, 1] - EDGE)], axis=1).clip(0, total)
    spans = spans[spans[:, 1] > spans[:, 0]].astype(np.int64)
    return spans[np.lexsort((spans[:, 1], spans[:, 0]))]


def _rooms(spans: NDArray[np.int64], total: int, config: WindowConfig) -> Iterator[tuple[int, int]]:
    """Earliest and latest start of each window that holds segments."""
    longer = spans[:, 1] - spans[:, 0] > config.frames  # [N]
    starts = sorted({at for start, end in spans[longer].tolist() for at in _along(start, end, total, config)})
    yield from ((start, start) for start in starts)
    rest = spans[~longer]
    within = [any(at <= start and end <= at + config.frames for at in starts) for start, end in rest.tolist()]
    for start, end in _groups(rest[~np.array(within, np.bool_)], config.frames):
        yield max(end - config.frames, 0), min(start, max(total - config.frames, 0))


def _along(start: int, end: int, total: int, config: WindowConfig) -> Iterator[int]:
    """Starts of the windows along a segment that is longer than they."""
    margin = int((1 - config.min_visible) / 2 * config.frames)
    first, last = max(start - margin, 0), min(end + margin, total) - config.frames
    yield from range(first, last, config.stride_frames)
    yield last


def _groups(spans: NDArray[np.int64], frames: int) -> Iterator[tuple[int, int]]:
    """First frame and end of what each of the fewest windows holds.

    Whatever window holds the earliest segment begins no later than it: none holds more of the others than the one that
    begins with it.
    """
    while len(spans):
        start = int(spans[0, 0])
        held = spans[:, 1] <= start + frames
        yield start, int(spans[held, 1].max())
        spans = spans[~held]


def _touched(
    starts: NDArray[np.signedinteger[Any]], valid: NDArray[np.signedinteger[Any]], spans: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """`[W]`, whether any of a segment is in a window."""
    both = (spans[:, 0] < (starts + valid)[:, None]) & (spans[:, 1] > starts[:, None])  # [W, N]
    touched: NDArray[np.bool_] = np.any(both, axis=1)
    return touched


def _background(
    videos: Manifest,
    tiles: WindowTable,
    free: NDArray[np.bool_],
    held: NDArray[np.int64],
    share: float,
    seed: int,
) -> NDArray[np.int64]:
    """Tiles that are taken as background, source by source; those first without which a video would have no window."""
    if not share:
        return np.empty(0, np.int64)
    source, bare = videos.column("source"), np.ones(len(videos), np.bool_)  # [V]; of the second, who has no window yet
    bare[held] = False
    order = np.argsort(_uniform(seed, BACKGROUND, len(tiles)), kind="stable")
    order = order[free[order]]
    _, firsts = np.unique(tiles.video[order], return_index=True)  # of each video, the tile that is drawn first
    leads = np.zeros(len(order), np.bool_)
    leads[firsts] = bare[tiles.video[order[firsts]]]
    before = np.argsort(~leads, kind="stable")
    order, leads = order[before], leads[before]
    chosen = [np.empty(0, np.int64)]
    for index in np.unique(source):
        own = source[tiles.video[order]] == index
        wanted = round(int((source[held] == index).sum()) * share / (1 - share))
        chosen.append(order[own][: max(wanted, int(leads[own].sum()))])
    return np.concatenate(chosen)


def _uniform(seed: int, stream: int, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1): raw words of the generator, which numpy keeps from version to version."""
    words = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(stream,))).random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
