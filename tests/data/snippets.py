"""Snippet features that a test draws: noise, and in an action's clips the direction of its class, in RGB and in flow."""

import hashlib
import json
from pathlib import Path

import numpy as np

from tadscale.data.extractor_spec import EXTRACTOR_NAME, EXTRACTOR_WEIGHTS_NAME, ExtractorSpec
from tadscale.data.features import FeatureRows

CHANNELS, FLOW_CHANNELS = 12, 8
STRIDE, OFFSET, FPS = 4, 8, 30
LENGTH_S = 20.0
LABELS = ("jump", "run")


def draw_features(folder: Path, train: int, test: int, seed: int = 0) -> tuple[Path, Path]:
    """Write `KEY.npy` `[T, CHANNELS + FLOW_CHANNELS]` for each video, two actions in each.

    Returns:
        The folder of the files, and the annotations.
    """
    rng = np.random.default_rng(seed)
    directions = 3 * np.random.default_rng(7).normal(size=(len(LABELS), CHANNELS + FLOW_CHANNELS))
    files = folder / "features"
    files.mkdir(parents=True)
    rows = int((LENGTH_S * FPS - 2 * OFFSET) // STRIDE + 1)
    middles_s = (np.arange(rows) * STRIDE + OFFSET) / FPS
    database = {}
    for index in range(train + test):
        features = rng.normal(size=(rows, CHANNELS + FLOW_CHANNELS))
        annotations = []
        for label, earliest_s in enumerate(rng.permutation([1.0, 11.0])):
            start_s = earliest_s + rng.uniform(0, 3)
            end_s = start_s + rng.uniform(2, 5)
            features[(middles_s >= start_s) & (middles_s <= end_s)] += directions[label]
            annotations.append({"label": LABELS[label], "segment": [start_s, end_s]})
        key, subset = f"video-{index}", "validation" if index < train else "test"
        np.save(files / f"{key}.npy", features.astype(np.float16))
        database[key] = {"subset": subset, "duration": LENGTH_S, "annotations": annotations}
    path = folder / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    return files, path


def extractor_of(rows: FeatureRows, folder: Path, weights: bytes = b"weights") -> ExtractorSpec:
    """Say in a folder that a backbone made its features; nobody builds it of these weights."""
    spec = ExtractorSpec(
        rows=rows,
        frames=16,
        height=32,
        width=32,
        resize="stretch",
        backbone={"name": "small3d", "width": 4},
        weights_url="s3://somewhere/start",
        weights_sha256="ab" * 32,
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    (folder / EXTRACTOR_NAME).write_text(spec.model_dump_json())
    (folder / EXTRACTOR_WEIGHTS_NAME).write_bytes(weights)
    return spec
