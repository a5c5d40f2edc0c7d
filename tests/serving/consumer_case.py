"""Writes what a consumer is given: `python -m tests.serving.consumer_case write FOLDER`."""

import json
import sys
from pathlib import Path

from tadscale.runtime.models.packaging import package_model
from tadscale.serving import Predictor
from tests.serving.tiny import SPEC, clip, student_weights


def write(folder: Path) -> None:
    """Write `model/`, `clip.mp4`, and `expected.json`: the detections as the training side has them."""
    package_model(folder / "model", SPEC, student_weights(), card="# Tiny\n")
    video = clip(3.45)
    (folder / "clip.mp4").write_bytes(video)
    _, detections = Predictor.from_directory(folder / "model", "cpu").detect(video, "clip.mp4")
    rows = [[row.video, row.label, row.start_s, row.end_s, row.score] for row in detections]
    (folder / "expected.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    write(Path(sys.argv[2]))
