"""`tadscale detect MODEL --live SOURCE`: detections of a stream as JSON lines, each as soon as it is certain."""

import json
from collections.abc import Iterator
from typing import BinaryIO

from tadscale.runtime.models.open_model import open_model
from tadscale.serving.live import LiveDetection, LiveDetector
from tadscale.serving.live_frames import live_frames
from tadscale.serving.predictor import Predictor


def detect_live(
    model: str,
    source: str | BinaryIO,
    *,
    tracking_uri: str | None = None,
    device: str | None = None,
    hop_frames: int | None = None,
    min_score: float = 0.1,
) -> Iterator[LiveDetection]:
    """Detections of a stream in the order in which they become certain; see `LiveDetector` for the rule and its latency.

    Args:
        model: as `tadscale.cli.detect_videos.detect` has it.
        source: what FFmpeg opens, or a pipe.
        tracking_uri: of the registry.
        device: such as `cpu`; by default a GPU if there is one.
        hop_frames: sampled frames from one window to the next; by default as in evaluation.
        min_score: the least score.

    Raises:
        UserError: there is no such model, or it cannot look at streams.
        DataError: the stream cannot be opened, or has ended otherwise than by its end.
    """
    with open_model(model, tracking_uri) as folder:
        detector = LiveDetector(Predictor.from_directory(folder, device), hop_frames=hop_frames, min_score=min_score)
    return _detections(detector, source)


def live_line(detection: LiveDetection) -> str:
    """One detection as a line of JSON; seconds since the stream's first picture, to the millisecond."""
    times = {name: round(getattr(detection, name), 3) for name in ("start_s", "end_s", "seen_s")}
    return json.dumps({"label": detection.label, **times, "score": round(detection.score, 4)})


def _detections(detector: LiveDetector, source: str | BinaryIO) -> Iterator[LiveDetection]:
    for frame in live_frames(source, detector.window):
        yield from detector.push(frame)
    yield from detector.finish()
