"""Windows of segments: every segment is whole in one, no window too many, and background by its rule."""

from itertools import combinations

import numpy as np
import pytest
from pydantic import ValidationError

from tadscale.data.manifest import Manifest, make_manifest
from tadscale.data.segment_windows import segment_windows
from tadscale.data.windows import WindowConfig, WindowTable, clip_segments, tile, video_frames
from tests.data.test_windows import row

LENGTH = 16
FPS = 10.0


def config(background: float = 0.25, **changes: object) -> WindowConfig:
    sizes = {"frames": LENGTH, "stride_frames": 8, "fps": FPS, "sampling": "segments"}
    return WindowConfig(**(sizes | {"background": background} | changes))


def videos(seed: int, count: int = 30, longest_s: float = 4.0) -> Manifest:
    """Videos of 0.3 to 40 s with none to eight segments anywhere, overlapping ones too."""
    rng, rows = np.random.default_rng(seed), []
    for video in range(count):
        duration_s = float(rng.uniform(0.3, 40.0))
        starts = rng.uniform(0, duration_s, rng.integers(0, 9))
        ends = np.minimum(starts + rng.uniform(0.05, longest_s, len(starts)), duration_s)
        facts = {"labels": ("a",) * len(starts), "start_s": tuple(starts), "end_s": tuple(ends)}
        rows.append(row(f"v{video}", duration_s, **facts))
    return make_manifest("u", rows)


def starts_of(table: WindowTable, video: int) -> list[int]:
    return table.start_frames[table.video == video].tolist()


def spans(manifest: Manifest, video: int) -> list[tuple[int, int]]:
    """First frame and end of a video's segments, one after the other."""
    found = []
    for start_s, end_s in manifest.row(video).segments_s.tolist():
        near = range(int(start_s * FPS) - 2, int(end_s * FPS) + 3)
        touched = [k for k in near if start_s * FPS < k + 1 - 1e-6 and k + 1e-6 < end_s * FPS]
        found.append((touched[0], touched[-1] + 1))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_every_segment_that_fits_is_whole_in_a_window_and_every_longer_one_is_gone_along(seed: int) -> None:
    manifest = videos(seed)
    table = segment_windows(manifest, config(), seed)
    for video in range(len(manifest)):
        starts = starts_of(table, video)
        for (start, end), segment_s in zip(spans(manifest, video), manifest.row(video).segments_s, strict=True):
            if end - start <= LENGTH:
                assert any(at <= start and end <= at + LENGTH for at in starts)
                continue
            seen = {k for at in starts for k in range(at, at + LENGTH) if _counts(segment_s, at)}
            assert seen >= set(range(start, end))


def _counts(segment_s: np.ndarray, start: int) -> bool:
    return bool(clip_segments(segment_s[None] * FPS - start, LENGTH, 0.3)[1].any())


@pytest.mark.parametrize("seed", range(3))
def test_segments_that_fit_take_the_fewest_windows(seed: int) -> None:
    """Against all choices of windows that begin with a segment: some smallest set is among those."""
    manifest = videos(seed, count=20, longest_s=LENGTH / FPS - 0.1)
    table = segment_windows(manifest, config(background=0.0), seed)
    for video in range(len(manifest)):
        wanted = spans(manifest, video)
        begins = sorted({start for start, _ in wanted})
        fewest = next(
            count
            for count in range(len(begins) + 1)
            for chosen in combinations(begins, count)
            if all(any(at <= start and end <= at + LENGTH for at in chosen) for start, end in wanted)
        )
        assert len(starts_of(table, video)) == fewest


@pytest.mark.parametrize(
    ("start_s", "end_s", "count"), [(10.0, 15.0, 7), (0.0, 5.0, 6), (10.0, 11.7, 3), (0.0, 40.0, 49)]
)
def test_a_longer_segment_has_as_many_windows_as_tile_it_and_what_is_around_it(
    start_s: float, end_s: float, count: int
) -> None:
    labels = {"labels": ("a",), "start_s": (start_s,), "end_s": (end_s,)}
    table = segment_windows(make_manifest("u", [row("v", 40.0, **labels)]), config(background=0.0), 0)
    margin = 5  # (1 - 0.3) / 2 of 16 frames
    first, end = max(round(start_s * FPS) - margin, 0), min(round(end_s * FPS) + margin, 400)
    assert len(table) == count == 1 + -(-(end - first - LENGTH) // 8)
    assert (table.start_frames[0], table.start_frames[-1]) == (first, end - LENGTH)
    assert all(_counts(np.array([start_s, end_s]), at) for at in table.start_frames.tolist())


def test_windows_lie_in_their_videos_by_video_and_start() -> None:
    manifest = videos(9)
    table = segment_windows(manifest, config(), 9)
    total = video_frames(manifest.duration_s, FPS)[table.video]
    assert (table.valid_frames == np.minimum(total, LENGTH)).all()
    assert (table.start_frames >= 0).all()
    assert (table.start_frames + table.valid_frames <= total).all()
    places = list(zip(table.video.tolist(), table.start_frames.tolist(), strict=True))
    assert places == sorted(places)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_background_has_its_share_and_every_video_a_window(share: float) -> None:
    manifest = videos(3, count=60)
    held = len(segment_windows(manifest, config(background=0.0), 3))
    table = segment_windows(manifest, config(share), 3)
    tiles = tile(manifest, config())
    bare = sum(not manifest.row(video).labels for video in range(len(manifest)))
    assert len(table) - held == min(max(round(held * share / (1 - share)), bare), _untouched(manifest, tiles))
    assert set(table.video.tolist()) == set(range(len(manifest)))
    assert _untouched(manifest, table) == len(table) - held


def _untouched(manifest: Manifest, table: WindowTable) -> int:
    """Windows in which there is nothing of a segment."""
    return sum(
        not any(start < at + LENGTH and at < end for start, end in spans(manifest, video))
        for video in range(len(manifest))
        for at in starts_of(table, video)
    )


def test_the_seed_alone_decides_what_is_drawn() -> None:
    assert len({segment_windows(videos(5), config(), seed).digest for seed in (0, 0, 1, 2)}) == 3
    happens = {"labels": ("a",) * 3, "start_s": (1.0, 2.0, 9.0), "end_s": (1.5, 2.4, 12.0)}
    manifest = make_manifest("u", [row("v0", 20.0, **happens), row("v1", 3.0), row("v2", 30.0, **happens)])
    table = segment_windows(manifest, config(), 7)  # frozen: a run that goes on must meet the same windows
    assert [starts_of(table, video) for video in range(3)] == [
        [9, 85, 93, 101, 109, 128],
        [14],
        [8, 85, 93, 101, 109, 184],
    ]


def test_where_a_window_sits_around_its_segment_is_spread_evenly() -> None:
    rows = [row(f"v{n}", 20.0, labels=("a",), start_s=(10.0,), end_s=(10.6,)) for n in range(1100)]
    table = segment_windows(make_manifest("u", rows), config(background=0.0), 0)
    places, counts = np.unique(table.start_frames, return_counts=True)
    assert places.tolist() == list(range(90, 101))
    assert np.abs(counts - 100).max() < 40  # 4 standard deviations


def test_videos_without_labels_are_tiled() -> None:
    mixed = [row("v0", 20.0, labels=("a",), start_s=(1.0,), end_s=(2.0,)), row("v1", 20.0, labelled=False)]
    manifest = make_manifest("u", mixed)
    table, tiles = segment_windows(manifest, config(background=0.0), 0), tile(manifest, config())
    assert len(starts_of(table, 0)) == 1
    assert starts_of(table, 1) == starts_of(tiles, 1)


def test_each_source_has_its_own_background() -> None:
    with_segments = [row(f"v{n}", 60.0, labels=("a",), start_s=(5.0,), end_s=(6.0,)) for n in range(8)]
    few = [row("w", 60.0, labels=("a",), start_s=(5.0,), end_s=(6.0,), source=1)]
    table = segment_windows(make_manifest("u", with_segments + few), config(0.5), 0)
    assert (table.video < 8).sum() == 16
    assert (table.video == 8).sum() == 2


def test_a_share_of_background_is_refused_where_it_decides_nothing() -> None:
    with pytest.raises(ValidationError, match=r"window\.background is 0\.4"):
        WindowConfig(background=0.4)
    assert config(0.4).tiled() == WindowConfig(frames=LENGTH, stride_frames=8, fps=FPS)
