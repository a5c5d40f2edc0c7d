"""The recipe on features, small: made of a job's videos, trained on, evaluated, registered; and then asked for raw videos,
in which the model finds what evaluation found in their features."""

import json
from pathlib import Path

import numpy as np
import pytest

from tadscale.data.config import DataConfig
from tadscale.data.encode import encode_h264
from tadscale.data.manifest import read_manifest
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.windows import WindowConfig, read_video
from tadscale.flow.motion import MotionConfig
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import stage_of
from tests.end_to_end.test_distill import _call
from tests.runtime.conftest import save_untrained

CHANNELS = 16  # of a small3d of width 4, every second frame
SMALL = [
    f"data.window={{frames: 96, stride_frames: 48, fps: 5, features: {{channels: {CHANNELS}, stride: 2, offset: 0, "
    "video_fps: 10}}",
    "data.train_subset=train",
    f"motion.feature_channels={CHANNELS}",
    "model.backbone.width=16",
    "model.dim=16",
    "model.head={name: actionformer, dim: 16, stem_blocks: 1, levels: 3, heads: 2}",
    "optim={epochs: 15, global_batch: 4, lr: 2.0e-3, warmup_epochs: 1, ema_decay: 0.9}",
    "cluster={workers: 1, cpus_per_worker: 0.5, cpus_per_fetch: 0.25, cpus_per_motion: 0.5}",
]
COLOURS = {"jump": (230, 30, 30), "run": (30, 30, 230)}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def drawn(index: int, subset: str) -> VideoSample:
    """Twenty seconds of grey, in which a red square jumps for some of them, and a blue one runs."""
    rng = np.random.default_rng(index)
    frames = rng.integers(100, 130, (200, 32, 32, 3), np.uint8)
    annotations = []
    for (label, colour), earliest in zip(COLOURS.items(), rng.permutation([10, 110]), strict=True):
        start, end = earliest + int(rng.integers(0, 30)), earliest + int(rng.integers(50, 80))
        for k in range(start, end):
            y, x = (2 * k % 16, 8) if label == "jump" else (8, 2 * k % 16)
            frames[k, y : y + 16, x : x + 16] = colour
        annotations.append({"label": label, "segment": [start / 10, end / 10]})
    return VideoSample(f"video-{index}", encode_h264(frames, 10.0), {"subset": subset, "annotations": annotations})


def job_on_videos(folder: Path) -> Path:
    """A job whose backbones are untrained: colour and motion are in what they make all the same."""
    write_shards([drawn(index, "train" if index < 8 else "test") for index in range(11)], str(folder / "videos"))
    job = JobConfig(
        kind="distill",
        name="made",
        storage=str(folder / "made"),
        data=DataConfig(url=str(folder / "videos"), window=WindowConfig(frames=32, fps=10, height=32, width=32)),
        motion=MotionConfig(name="temporal_gradient_fast"),
        model=ModelConfig(backbone=Small3dConfig(width=4), dim=16),
    )
    document = job.model_dump(mode="json")
    places = {mode: save_untrained(stage_of(job, mode), folder / mode, seed=1) for mode in ("baseline", "teacher")}
    document["model"]["backbone"]["weights"], document["teacher"] = places["baseline"], {"url": places["teacher"]}
    path = folder / "job.yaml"
    path.write_text(json.dumps(document))
    return path


def test_from_a_jobs_videos_to_a_registered_detector_on_raw_video(tmp_path: Path):
    places = {
        "TADSCALE_STORAGE": str(tmp_path / "runs"),
        "THUMOS14_FEATURES": str(tmp_path / "shards"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    job = job_on_videos(tmp_path)
    packed = _call("tadscale", "data", "features", str(job), places["THUMOS14_FEATURES"], env=places)
    assert "11 videos" in packed
    settings = [part for setting in SMALL for part in ("--set", setting)]
    _call("tadscale", "validate", "jobs/thumos14/features.yaml", *settings, env=places)
    output = _call("tadscale", "run", "jobs/thumos14/features.yaml", *settings, env=places)
    assert "thumos14-features version 1 (champion)" in output
    evaluation = tmp_path / "runs" / "thumos14-features" / "evaluation"
    scores = json.loads((evaluation / "scores.json").read_text())
    assert set(scores) == {"teacher", "baseline", "decomposed", "two_stream"}
    assert scores["decomposed"]["average_mAP"] > 0.5
    _asked_for_raw_videos(tmp_path, places, evaluation)


def _asked_for_raw_videos(folder: Path, places: dict[str, str], evaluation: Path) -> None:
    """When nothing is left of what made the features but the registered model."""
    for place in ("shards", "baseline"):
        (folder / place).rename(folder / f"{place}-gone")
    videos = read_manifest(str(folder / "videos")).subset("test")
    for row in videos.rows:
        (folder / f"{row.key}.mp4").write_bytes(read_video(row))
    paths = [str(folder / f"{row.key}.mp4") for row in videos.rows]
    said = _call("tadscale", "detect", "models:/thumos14-features@champion", *paths, "--json", env=places)
    found, expected = (json.loads(text)["results"] for text in (said, (evaluation / "decomposed.json").read_text()))
    assert set(found) == set(expected) == set(videos.column("key").tolist())
    for key in expected:
        assert len(found[key]) == len(expected[key]) > 3
        numbers = [np.array([[*one["segment"], one["score"]] for one in some[key]]) for some in (found, expected)]
        apart = np.abs(numbers[0][:, None] - numbers[1][None]).max(axis=2)  # [found, expected]
        assert apart.min(axis=0).max() < 1e-4 and apart.min(axis=1).max() < 1e-4
