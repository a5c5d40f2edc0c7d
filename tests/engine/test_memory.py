"""Own memory and shared pages, told apart."""

import mmap
import tempfile
from pathlib import Path

import pytest

from tadscale.engine.memory import memory_in_use

MIB = 2**20
SHARED = Path("/dev/shm")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared memory to map")
def test_pages_of_shared_memory_that_are_only_looked_at_are_not_own_memory() -> None:
    """As a worker looks at the object store: it maps a file that lies in memory, and touches its pages."""
    before = memory_in_use()
    with tempfile.TemporaryFile(dir=SHARED) as file:
        file.truncate(64 * MIB)
        with mmap.mmap(file.fileno(), 64 * MIB) as pages:
            pages[:: mmap.PAGESIZE] = b"x" * (64 * MIB // mmap.PAGESIZE)
            after = memory_in_use()
    assert after.shared - before.shared == pytest.approx(64, abs=2)
    assert after.own - before.own < 8


def test_what_a_process_keeps_is_its_own_memory() -> None:
    """A map of its own: what an array takes may come from what the allocator has kept of earlier ones."""
    before = memory_in_use()
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages[:: mmap.PAGESIZE] = b"x" * (64 * MIB // mmap.PAGESIZE)
        after = memory_in_use()
    assert after.own - before.own == pytest.approx(64, abs=8)
    assert memory_in_use().own < after.own - 32


def test_a_system_without_proc_says_at_least_something(tmp_path: Path) -> None:
    assert memory_in_use(tmp_path / "none").own > 10
