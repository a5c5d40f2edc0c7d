"""The cache of a node: bounded, shared by processes, and sound whatever dies in the middle of it."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tadscale.data.block_cache import BlockCache, CacheConfig, open_cache
from tadscale.data.faults import StorageError

KIB, MIB = 1 << 10, 1 << 20
SIZE = 64 * KIB


def cache_at(folder: Path, size: int = MIB) -> BlockCache:
    return BlockCache(CacheConfig(path=str(folder), bytes=size))


def block(number: int) -> tuple[bytes, bytes]:
    data = number.to_bytes(4, "big") * (SIZE // 4)
    return hashlib.sha256(data).digest()[:16], data


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "account"]


def held(folder: Path) -> int:
    total = 0
    for path in entries(folder):
        with suppress(FileNotFoundError):  # taken away meanwhile
            total += path.stat().st_size
    return total


def test_what_is_put_is_got_by_every_process(tmp_path: Path) -> None:
    digest, data = block(1)
    assert cache_at(tmp_path).get(digest) is None
    cache_at(tmp_path).put(digest, data)
    assert cache_at(tmp_path).get(digest) == data
    whole = hashlib.sha256(data).digest()
    cache_at(tmp_path).put(whole, data)
    assert cache_at(tmp_path).get(whole) == data


def test_the_bound_holds_and_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    for number in range(12):
        cache.put(*block(number))
    for path in entries(tmp_path):  # all of them long ago
        os.utime(path, (1e9, 1e9))
    used = block(3)
    assert cache.get(used[0]) == used[1]
    for number in range(12, 24):
        cache.put(*block(number))
        assert held(tmp_path) <= MIB
    assert cache.get(used[0]) == used[1]
    assert all(cache.get(block(number)[0]) for number in range(12, 24))
    assert sum(cache.get(block(number)[0]) is not None for number in range(12)) <= 4
    assert held(tmp_path) > 0.7 * MIB


@pytest.mark.parametrize("damage", [lambda data: data[:-1] + b"x", lambda data: data[:100], lambda data: b""])
def test_damaged_entries_are_not_believed_and_go(tmp_path: Path, damage) -> None:
    cache, (digest, data) = cache_at(tmp_path), block(1)
    cache.put(digest, data)
    [path] = entries(tmp_path)
    path.write_bytes(damage(data))
    assert cache.get(digest) is None
    assert not entries(tmp_path)
    cache.put(digest, data)
    assert cache.get(digest) == data


def test_what_is_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    data = bytes(2 * MIB)
    cache_at(tmp_path).put(hashlib.sha256(data).digest(), data)
    assert not tmp_path.exists() or not entries(tmp_path)


def test_what_a_dead_process_left_half_written_is_removed(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    cache.put(*block(0))
    half = entries(tmp_path)[0].with_name("0123.part")
    half.write_bytes(b"half")
    for number in range(1, 24):
        cache.put(*block(number))
    assert not half.exists()


def test_an_account_that_is_none_is_counted_anew(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    for number in range(8):
        cache.put(*block(number))
    for text in ("", "rubbish", "9" * 30):
        (tmp_path / "account").write_text(text)
        cache.put(*block(100 + len(text)))
        assert int((tmp_path / "account").read_text()) == held(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written.*data\.cache\.path"):
        cache_at(tmp_path / "file" / "cache").put(*block(0))


def test_one_process_opens_a_cache_once(tmp_path: Path) -> None:
    config = CacheConfig(path=str(tmp_path), bytes=MIB)
    assert open_cache(config) is open_cache(config.model_copy())


HAMMER = """
import random, sys, pathlib
from tests.data.test_block_cache import block, cache_at
cache, rng = cache_at(pathlib.Path(sys.argv[1])), random.Random(int(sys.argv[2]))
print("ready", flush=True)
for _ in range(int(sys.argv[3])):
    digest, data = block(rng.randrange(40))
    found = cache.get(digest)
    assert found in (None, data)
    if found is None:
        cache.put(digest, data)
"""


def hammer(folder: Path, seed: int, times: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HAMMER, str(folder), str(seed), str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_it_and_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    steady = [hammer(tmp_path, seed, 500) for seed in range(2)]
    doomed = [hammer(tmp_path, seed, 10**9) for seed in range(2, 5)]
    try:
        for process in steady + doomed:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        most = 0
        for process in doomed:
            time.sleep(0.15)
            most = max(most, held(tmp_path))
            process.send_signal(signal.SIGKILL)
        assert [process.wait(120) for process in steady] == [0, 0]
    finally:
        for process in steady + doomed:
            process.kill()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()
    halves = [path for path in entries(tmp_path) if path.suffix == ".part"]
    assert len(halves) <= 3
    assert most <= MIB + SIZE  # one is being written
    assert held(tmp_path) <= MIB + len(halves) * SIZE
    cache = cache_at(tmp_path)
    assert all(cache.get(block(number)[0]) in (None, block(number)[1]) for number in range(40))
    cache.put(*block(99))  # the lock died with its holders
    assert cache.get(block(99)[0]) == block(99)[1]
