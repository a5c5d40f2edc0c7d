"""Blocks come verified, in few requests, from the cache where it has them; a file of some of them reads like the whole."""

import io
from pathlib import Path

import numpy as np
import pytest

from tadscale.data.block_cache import BlockCache, CacheConfig
from tadscale.data.blocks import BlockReader, FetchCount, Tally, sum_counts
from tadscale.data.layout import VideoLayout, digest_blocks
from tadscale.data.partial_file import PartialFile
from tadscale.data.storage import CorruptMember, open_filesystem

KIB = 1024
OFFSET = 512
DATA = np.random.default_rng(0).bytes(40 * KIB - 100)
LAYOUT = VideoLayout(
    len(DATA), KIB, np.array([[0, 10]]), np.array([[10, len(DATA)]]), np.array([0]), digest_blocks(DATA, KIB)
)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A shard with the file in it, and requests that bridge gaps of 2 blocks."""
    monkeypatch.setattr("tadscale.data.blocks.GAP_BYTES", 2 * KIB)
    (tmp_path / "shard").write_bytes(b"x" * OFFSET + DATA + b"x" * 99)
    return str(tmp_path / "shard")


def reader(url: str, cache: BlockCache | None = None) -> BlockReader:
    return BlockReader(url, OFFSET, LAYOUT, Tally(), cache)


def right(held: dict[int, bytes]) -> bool:
    return all(data == DATA[block * KIB : (block + 1) * KIB] for block, data in held.items())


@pytest.mark.parametrize(("blocks", "requests", "fetched"), [
    ([], 0, 0), ([3], 1, KIB), ([3, 4, 5], 1, 3 * KIB), ([3, 6], 1, 4 * KIB), ([3, 7], 2, 2 * KIB),
    ([0, 1, 20, 23, 39], 3, 2 * KIB + 4 * KIB + KIB - 100),
])  # fmt: skip
def test_near_ranges_are_one_request(url: str, blocks: list[int], requests: int, fetched: int) -> None:
    some = reader(url)
    held = some.read(blocks)
    assert set(blocks) <= set(held)
    assert right(held)
    assert some.tally.count == FetchCount(fetched=fetched, requests=requests)


def test_what_is_damaged_on_its_way_is_read_again_and_counted_twice(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem, _ = open_filesystem(url)
    true_read, answers = type(filesystem).cat_file, iter([lambda data: data[:-1] + b"?", lambda data: data])
    monkeypatch.setattr(type(filesystem), "cat_file", lambda *args, **more: next(answers)(true_read(*args, **more)))
    some = reader(url)
    assert right(some.read([5, 6]))
    assert some.tally.count == FetchCount(fetched=4 * KIB, requests=2, retries=1)


def test_a_request_that_fails_and_is_made_again_is_a_retry(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem, _ = open_filesystem(url)
    true_read, faults = type(filesystem).cat_file, iter([ConnectionResetError("by peer"), TimeoutError()])

    def failing_twice(*args: object, **more: object) -> bytes:
        if (fault := next(faults, None)) is not None:
            raise fault
        return true_read(*args, **more)

    monkeypatch.setattr(type(filesystem), "cat_file", failing_twice)
    monkeypatch.setattr("tadscale.data.faults.time.sleep", lambda seconds: None)
    some = reader(url)
    assert right(some.read([5, 6, 20]))
    assert some.tally.count == FetchCount(fetched=3 * KIB, requests=2, retries=2)


def test_what_is_damaged_in_the_shard_is_named(url: str) -> None:
    with open(url, "r+b") as shard:
        shard.seek(OFFSET + 6 * KIB + 7)
        shard.write(b"??")
    with pytest.raises(CorruptMember, match="the digest of block 6 of 40 is another"):
        reader(url).read([5, 6, 7])
    assert right(reader(url).read([7, 8]))


def test_a_cache_is_asked_first_and_given_what_came(url: str, tmp_path: Path) -> None:
    cache = BlockCache(CacheConfig(path=str(tmp_path / "cache"), bytes=1 << 20))
    reader(url, cache).read([3, 5])  # and 4, which lay between
    some = reader(url, cache)
    assert right(some.read([3, 4, 5, 6]))
    assert some.tally.count == FetchCount(fetched=KIB, cached=3 * KIB, requests=1)


def test_a_file_of_some_blocks_reads_like_the_whole(url: str) -> None:
    rng, whole = np.random.default_rng(1), io.BytesIO(DATA)
    file = io.BufferedReader(PartialFile(reader(url), [3, 20]), 700)
    for _ in range(200):
        offset, size = int(rng.integers(-10, len(DATA) + 10)), int(rng.integers(0, 5000))
        for one in (file, whole):
            one.seek(max(0, offset))
        assert file.read(size) == whole.read(size)
        assert file.tell() == whole.tell()
    assert [one.seek(-5, io.SEEK_END) for one in (file, whole)] == [len(DATA) - 5] * 2
    assert file.read() == DATA[-5:]


def test_the_first_fault_is_kept_and_comes_again(url: str) -> None:
    file = PartialFile(reader(url), [3])
    Path(url).unlink()
    file.seek(3 * KIB)
    assert file.read(10) == DATA[3 * KIB : 3 * KIB + 10]
    faults = []
    for _ in range(2):
        file.seek(9 * KIB)
        with pytest.raises(OSError) as caught:
            file.read(10)
        faults.append(caught.value)
    assert faults == [file.fault] * 2


def test_counts_add_up() -> None:
    assert sum_counts([]) == FetchCount()
    counts = [FetchCount(*range(1, 9)), FetchCount(*range(10, 90, 10))]
    assert sum_counts(counts) == FetchCount(*range(11, 99, 11))
