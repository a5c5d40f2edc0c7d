"""The four commands of docs/own-videos.md, on a folder of small videos and a table of segments."""

import csv
import json
from pathlib import Path

import pytest

from tadscale.data.sprites import SpritesConfig, draw_video
from tests.end_to_end.test_distill import _call

SMALL = [
    "data.window={frames: 64, stride_frames: 48, fps: 10, height: 32, width: 32}",
    "motion.name=dis",
    "model.backbone.width=4",
    "model.head={name: actionformer, dim: 16, stem_blocks: 1, levels: 3, heads: 2}",
    "model.dim=16",
    "pretrain={frames: 16, optim: {epochs: 1, global_batch: 2}}",
    "optim={epochs: 1, global_batch: 2}",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """A folder with subfolders, a table beside it, and where the job keeps things."""
    settings = SpritesConfig(duration_s=8.0, size=32, layout="scene")
    with (tmp_path / "annotations.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video", "label", "start", "end"])
        for index in range(8):
            sample = draw_video(settings, "train", index)
            key = f"camera {index % 2}/clip-{index}"
            path = tmp_path / "VIDEOS" / f"{key}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sample.video)
            for one in sample.annotation["annotations"]:
                table.writerow([key, "moves", *one["segment"]])
    return {
        "TADSCALE_STORAGE": str(tmp_path / "runs"),
        "TADSCALE_DATA": str(tmp_path / "shards"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }


def test_from_a_folder_to_detections(places, tmp_path):
    settings = [part for setting in SMALL for part in ("--set", setting)]
    pack = ["tadscale", "data", "pack", str(tmp_path / "VIDEOS"), str(tmp_path / "annotations.csv")]
    packed = _call(*pack, places["TADSCALE_DATA"], "--split", "0.5/0/0.5", "--transcode", "fps=10", env=places)
    with (tmp_path / "annotations.csv").open() as file:
        annotated = {row["video"] for row in csv.DictReader(file)}
    assert f"packed        │ {len(annotated)} videos" in packed
    _call("tadscale", "validate", "jobs/own-videos.yaml", *settings, env=places)
    output = _call("tadscale", "run", "jobs/own-videos.yaml", *settings, env=places)
    assert "own-videos-detector version 1 (champion)" in output
    video = next((tmp_path / "VIDEOS").rglob("*.mp4"))
    command = ["tadscale", "detect", "models:/own-videos-detector@champion", str(video), "--json"]
    found = json.loads(_call(*command, env=places))
    assert len(found["results"]) == 1
