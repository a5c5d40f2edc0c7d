"""Fixtures for all tests."""

import os
from pathlib import Path

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
