"""The recipe on snippet features, small: packed, trained in all stages, evaluated, registered; and asked for a raw video."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tadscale.data.sprites import SpritesConfig, draw_video
from tests.data import snippets
from tests.end_to_end.test_distill import BIN, ROOT, _call

SMALL = [
    f"data.window={{frames: 96, stride_frames: 48, fps: 7.5, features: {{channels: {snippets.CHANNELS}, stride: 4, "
    "offset: 8, video_fps: 30}}",
    f"motion.feature_channels={snippets.FLOW_CHANNELS}",
    "model.backbone.width=16",
    "model.dim=16",
    "model.head={name: actionformer, dim: 16, stem_blocks: 1, levels: 3, heads: 2}",
    "optim={epochs: 15, global_batch: 4, lr: 2.0e-3, warmup_epochs: 1, ema_decay: 0.9}",
    "cluster={workers: 1, cpus_per_worker: 0.5, cpus_per_fetch: 0.25, cpus_per_motion: 0.5}",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_from_published_files_to_a_registered_detector(tmp_path: Path):
    files, annotations = snippets.draw_features(tmp_path, train=8, test=3)
    places = {
        "TADSCALE_STORAGE": str(tmp_path / "runs"),
        "THUMOS14_FEATURES": str(tmp_path / "shards"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    described = ["--stride", "4", "--offset", "8", "--video-fps", "30", "--rgb-channels", str(snippets.CHANNELS)]
    packed = _call(
        "tadscale",
        "data",
        "features",
        str(files),
        str(annotations),
        places["THUMOS14_FEATURES"],
        *described,
        env=places,
    )
    assert "11 videos" in packed
    settings = [part for setting in SMALL for part in ("--set", setting)]
    _call("tadscale", "validate", "jobs/thumos14/features.yaml", *settings, env=places)
    output = _call("tadscale", "run", "jobs/thumos14/features.yaml", *settings, env=places)
    assert "thumos14-features version 1 (champion)" in output
    scores = json.loads((tmp_path / "runs" / "thumos14-features" / "evaluation" / "scores.json").read_text())
    assert set(scores) == {"teacher", "baseline", "decomposed", "two_stream"}
    assert scores["decomposed"]["average_mAP"] > 0.5  # classes are told apart by their rows alone
    _asked_for_a_raw_video(tmp_path, places)


def _asked_for_a_raw_video(folder: Path, places: dict[str, str]) -> None:
    video = folder / "clip.mp4"
    video.write_bytes(draw_video(SpritesConfig(duration_s=4.0, size=32), "test", 0).video)
    command = ["tadscale", "detect", "models:/thumos14-features@champion", str(video)]
    environment = {**os.environ, **places, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "it detects nothing in raw video" in " ".join(done.stderr.split())
