"""A job that could run, and stored videos for it, described by a manifest that no shard needs to be decoded for."""

import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tadscale.data.encode import encode_h264
from tadscale.data.manifest import write_manifest
from tadscale.data.shards import VideoSample, write_shards
from tadscale.runtime.jobs.settings import build_settings
from tadscale.runtime.stage.job import JobConfig

Tree = dict[str, Any]


def sound(folder: Path) -> Tree:
    """The settings of a job with which nothing is wrong."""
    return {
        "kind": "distill",
        "name": "x",
        "storage": str(folder / "runs"),
        "data": {
            "url": str(folder / "data"),
            "sprites": {"train": 8, "validation": 0, "test": 4, "duration_s": 8, "fps": 5, "size": 32},
            "window": {"frames": 16, "stride_frames": 16, "fps": 5, "height": 32, "width": 32},
        },
        "motion": {"name": "temporal_gradient_fast"},
        "model": {"backbone": {"name": "small3d", "width": 4}, "dim": 8, "head": {"name": "actionformer", "dim": 8}},
        "optim": {"epochs": 2, "global_batch": 4},
    }


def changed(tree: Tree, changes: Tree) -> Tree:
    """The same settings but for some, named by their path; None removes one."""
    tree = deepcopy(tree)
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
        if value is None:
            del node[leaf]
    return tree


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobConfig]:
    """Makes the job, with changes."""
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return lambda **changes: build_settings(
        JobConfig, changed(sound(tmp_path), {path.replace("__", "."): value for path, value in changes.items()}), "job"
    )


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., str]:
    """Writes shards of videos of 4 s, and gives their URL."""
    frames = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), np.uint8)
    video = encode_h264(frames, 5.0)

    def write(
        name: str = "own",
        *,
        labels: tuple[str, ...] = ("run",),
        subsets: tuple[str, ...] = ("train", "test"),
        test_labels: tuple[str, ...] | None = None,
    ) -> str:
        tested = labels if test_labels is None else test_labels
        samples = [
            VideoSample(f"{name}-{subset}-{index}", video, note(subset, tested if subset == "test" else labels))
            for subset in subsets
            for index in range(2)
        ]
        url = str(tmp_path / name)
        write_manifest(write_shards(samples, url, classes=tuple(dict.fromkeys(labels + tested)) or None))
        return url

    def note(subset: str, labels: tuple[str, ...]) -> Tree:
        annotations = [{"label": label, "segment": [0.5, 3.0]} for label in labels]
        return {"duration": 4.0, "subset": subset, "annotations": annotations}

    return write


@pytest.fixture(autouse=True)
def not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a command begins: other tests of this process may have joined a cluster."""
    if "ray" in sys.modules:
        monkeypatch.setattr("ray.is_initialized", lambda: False)
