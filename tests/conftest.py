"""Fixtures for all tests."""

import os
from pathlib import Path

# Before torch is imported, here and in every process that a test starts: two threads a process on two shared cores spin for
# each other (a test of a second took over a minute beside a training run).
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray gives its workers a niceness of 15. Beside a busy test they then get one thirtieth of a core: a job that takes four
# minutes took fifteen.
os.environ.setdefault("RAY_worker_niceness", "0")

import pytest

pytest_plugins = ["tests.s3"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository (or at TADSCALE_SHARED); tests that want it skip without it."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("TADSCALE_SHARED", default)) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set TADSCALE_SHARED to the folder that holds data/)")
    return folder


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what starts Ray clusters: `make test` runs it in one line, and everything else beside it."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    if "cluster" in getattr(item, "fixturenames", ()) or folder in ("cluster", "end_to_end"):
        item.add_marker(pytest.mark.clusters)
