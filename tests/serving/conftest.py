"""Fixtures of the tests of the exported model."""

from pathlib import Path

import pytest
import torch

from tests.serving.tiny import SPEC, clip, student_weights


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packaged model; shared, so nobody writes into it."""
    from tadscale.runtime.models.packaging import package_model

    folder = tmp_path_factory.mktemp("packaged") / "model"
    package_model(folder, SPEC, student_weights(), card="# Tiny\n")
    return folder


@pytest.fixture(scope="session")
def video() -> bytes:
    """A clip of 3.45 s: several windows, the last of which is aligned to the end."""
    return clip(3.45)
