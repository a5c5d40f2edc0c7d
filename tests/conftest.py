"""Fixtures for all tests."""

import os
from pathlib import Path

# Before torch is imported, here and in every process that a test starts: two threads a process on two shared cores spin for
# each other (a test of a second took over a minute beside a training run).
os.environ.setdefault("OMP_NUM_THREADS", "1")

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


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in this hook, too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (`-n 2 --dist loadgroup`) a file's tests stay together, and all that start a Ray cluster: it is shared,
    and two at a time would starve each other."""
    for item in items:
        folders = item.path.relative_to(Path(__file__).parent).parts
        starts_cluster = "cluster" in getattr(item, "fixturenames", ()) or folders[0] in ("cluster", "end_to_end")
        item.add_marker(pytest.mark.xdist_group("clusters" if starts_cluster else "/".join(folders)))
