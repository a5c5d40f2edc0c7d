"""A window's pictures are the same to the bit, whether all of its video is fetched or what it needs."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tadscale.data.blocks import FetchCount, sum_counts
from tadscale.data.decode import decode_frames
from tadscale.data.fetching import WindowFetcher, foreseen_blocks, touched_groups
from tadscale.data.layout import VideoLayout, decode_layout, encode_layout
from tadscale.data.manifest import VideoRow, read_manifest
from tadscale.data.quarantine import DataError
from tadscale.data.storage import CorruptMember, StorageError, open_filesystem
from tadscale.data.windows import WindowConfig, load_window
from tests.data.kinds import BLOCK, KINDS, SIZE, clip, packed, small_blocks

WINDOW = WindowConfig(frames=10, stride_frames=10, fps=10, height=SIZE[0], width=SIZE[1])


@pytest.fixture(autouse=True, scope="module")
def blocks() -> Iterator[None]:
    with small_blocks():
        yield


@pytest.fixture(scope="module")
def mp4() -> bytes:
    return clip()


@pytest.fixture(params=["local", "s3"])
def row(request: pytest.FixtureRequest, tmp_path: Path, mp4: bytes) -> VideoRow:
    """A video of 10 s, with a key frame every second, packed."""
    return packed(mp4, str(tmp_path / "shards") if request.param == "local" else request.getfixturevalue("s3_url"))


@pytest.mark.parametrize("kind", KINDS)
def test_random_windows_are_the_same_to_the_bit(kind: str, tmp_path: Path) -> None:
    video, rng, total = KINDS[kind].make(), np.random.default_rng(3), FetchCount()
    row = packed(video, str(tmp_path))
    assert bool(row.layout) == KINDS[kind].in_part
    starts = [0.0, 3.0, row.duration_s - 1.01, *rng.uniform(0, row.duration_s - 1.1, 3)]
    for first_s in starts:
        times_s, fetcher = np.linspace(first_s, first_s + 1.0, 6), WindowFetcher()
        with fetcher.open(row, times_s[0], times_s[-1]) as file:
            in_parts = decode_frames(file, times_s, SIZE)
        assert np.array_equal(in_parts, decode_frames(video, times_s, SIZE))
        total = sum_counts([total, fetcher.count])
    if row.layout:
        assert total.fetched < 0.6 * len(starts) * len(video)
        assert total.unplanned <= ("variable rate, B-frames" in kind) * len(starts)
    else:
        assert (total.fetched, total.requests) == (len(starts) * len(video), len(starts))


def test_what_is_counted(row: VideoRow, mp4: bytes) -> None:
    fetcher = WindowFetcher()
    window = load_window(row, 35, 10, WINDOW, fetcher=fetcher)
    assert np.array_equal(window.frames, decode_frames(mp4, np.arange(35, 45) / 10, SIZE))
    layout = decode_layout(row.layout, len(mp4))
    groups = touched_groups(layout, 3.5, 4.4)
    assert groups.tolist() == layout.groups[3:5].tolist()
    blocks = foreseen_blocks(layout, 3.5, 4.4)
    size = sum(end - first for first, end in map(layout.block_range, blocks))
    assert size <= fetcher.count.fetched <= size + 4 * BLOCK  # two gaps of two blocks at the most
    assert fetcher.count.needed == groups[-1, 1] - groups[0, 0]
    assert 2 <= fetcher.count.requests <= 3
    assert (fetcher.count.cached, fetcher.count.unplanned) == (0, 0)


def test_a_window_of_much_of_the_video_is_one_request(row: VideoRow, mp4: bytes) -> None:
    fetcher = WindowFetcher()
    with fetcher.open(row, 1.0, 7.0) as file:
        assert file == mp4
    assert fetcher.count == FetchCount(fetched=len(mp4), needed=fetcher.count.needed, requests=1)
    assert 0.5 * len(mp4) < fetcher.count.needed < len(mp4)


def test_a_video_that_is_fetched_whole_counts_its_retries(
    tmp_path: Path, mp4: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, fetcher = packed(mp4, str(tmp_path))._replace(layout=b""), WindowFetcher()
    filesystem, _ = open_filesystem(row.url)
    true_read, answers = type(filesystem).cat_file, iter([lambda data: data[:-1], lambda data: data])
    monkeypatch.setattr(type(filesystem), "cat_file", lambda *args, **more: next(answers)(true_read(*args, **more)))
    with fetcher.open(row, 1.0, 2.0) as file:
        assert file == mp4
    assert (fetcher.count.requests, fetcher.count.retries) == (2, 1)


def test_time_counts_whether_or_not_it_was_of_use_and_frames_if_it_was() -> None:
    fetcher = WindowFetcher()
    with fetcher.loading(10):
        time.sleep(0.02)
    assert 20_000 <= fetcher.count.load_us < 1_000_000
    assert fetcher.count.frames == 10
    before_us = fetcher.count.load_us
    with pytest.raises(DataError), fetcher.loading(10):
        time.sleep(0.01)
        raise DataError("bad")
    assert fetcher.count.load_us >= before_us + 10_000
    assert fetcher.count.frames == 10


def test_a_decoder_that_was_not_foreseen_gets_the_right_bytes(row: VideoRow, mp4: bytes) -> None:
    layout = decode_layout(row.layout, len(mp4))
    times_s = np.linspace(5.2, 6.0, 5)
    wrong = [
        layout._replace(head=layout.head[:0]),
        layout._replace(groups=np.roll(layout.groups, 3, 0)[3:], keys_us=layout.keys_us[3:]),
    ]
    for changed in wrong:
        fetcher = WindowFetcher()
        with fetcher.open(row._replace(layout=encode_layout(changed)), times_s[0], times_s[-1]) as file:
            assert np.array_equal(decode_frames(file, times_s, SIZE), decode_frames(mp4, times_s, SIZE))
        assert fetcher.count.unplanned > 0


def test_what_cannot_be_sought_is_read_in_few_requests(row: VideoRow, mp4: bytes) -> None:
    """From the beginning, twice as much each time: not a request a block."""
    fetcher = WindowFetcher()
    with fetcher.open(row, 9.0, 9.5) as file:
        assert file.seek(0) == 0
        assert file.read() == mp4
    assert fetcher.count.unplanned <= 10 < decode_layout(row.layout, len(mp4)).blocks / 4


def overwrite(row: VideoRow, at: int, data: bytes) -> None:
    with open(row.url, "r+b") as shard:
        shard.seek(row.video_offset + at)
        shard.write(data)


@pytest.mark.parametrize("planned", [True, False])
def test_damage_is_found_wherever_it_is_read(planned: bool, tmp_path: Path, mp4: bytes) -> None:
    """FFmpeg takes a read that fails for the end of the file, and gives what came before: the fault comes through."""
    row = packed(mp4, str(tmp_path))
    layout = decode_layout(row.layout, len(mp4))
    overwrite(row, int(layout.groups[5, 0]) + 2000, b"\xff" * 8)
    if not planned:  # the group is asked for on the way only
        layout = layout._replace(groups=layout.groups[:4], keys_us=layout.keys_us[:4])
        row = row._replace(layout=encode_layout(layout))
    with pytest.raises(CorruptMember, match="the digest of block"):
        load_window(row, 51, 5, WINDOW)
    assert np.array_equal(load_window(row, 11, 5, WINDOW).frames[:5], decode_frames(mp4, np.arange(11, 16) / 10, SIZE))


def test_a_shard_that_goes_away_is_no_bad_video(tmp_path: Path, mp4: bytes) -> None:
    row = packed(mp4, str(tmp_path))
    with pytest.raises(StorageError), WindowFetcher().open(row, 9.0, 9.5) as file:
        Path(row.url).unlink()
        decode_frames(file, np.array([5.0]), SIZE)


@pytest.mark.parametrize("damage", [
    lambda layout: layout[: len(layout) // 2], lambda layout: b"\x07" + layout[1:], lambda layout: b"\x01" + b"\xff" * 99
])  # fmt: skip
def test_a_layout_that_is_none_is_the_video_s_fault(tmp_path: Path, mp4: bytes, damage) -> None:
    row = packed(mp4, str(tmp_path))
    with pytest.raises(DataError, match="layout in the manifest is damaged"):
        load_window(row._replace(layout=damage(row.layout)), 0, 5, WINDOW)


def test_a_layout_of_other_bytes_is_found_out(tmp_path: Path, mp4: bytes) -> None:
    row = packed(mp4, str(tmp_path))
    layout: VideoLayout = decode_layout(row.layout, len(mp4))
    forged = layout._replace(digests=bytes(len(layout.digests)))
    with pytest.raises(CorruptMember):
        load_window(row._replace(layout=encode_layout(forged)), 0, 5, WINDOW)


def test_manifests_without_layouts_work_as_before(tmp_path: Path, mp4: bytes) -> None:
    row, fetcher = packed(mp4, str(tmp_path))._replace(layout=b""), WindowFetcher()
    window = load_window(row, 35, 10, WINDOW, fetcher=fetcher)
    assert np.array_equal(window.frames, decode_frames(mp4, np.arange(35, 45) / 10, SIZE))
    assert fetcher.count == FetchCount(fetched=len(mp4), needed=len(mp4), requests=1)
    assert read_manifest(str(tmp_path)).row(0).layout
