"""Videos in, detections out: the exported detector at work."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tadscale.data.decode import decode_frames, probe_video
from tadscale.data.quarantine import DataError
from tadscale.data.windows import WindowConfig, WindowTable, tile
from tadscale.segments import Detection
from tadscale.serving.inference import VideoDetections, detect_windows, merge_windows
from tadscale.serving.sources import VideoSource, fetch_video, source_name
from tadscale.serving.spec import SPEC_NAME, DetectorSpec, load_network, read_spec

PACKAGED_AT = Path("artifacts/detector")
"""Where a packaged MLflow model keeps the detector."""
BATCH_WINDOWS = 4  # of 128 frames at 112x112: 77 MB of RGB input; more gained nothing on a CPU


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was found in a list of videos."""

    detections: list[Detection] = field(default_factory=list)
    """By video, in the order of the input, and by descending score."""
    duration_s: dict[str, float] = field(default_factory=dict)
    """Length of each video that could be used, those without a detection included."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why each other video could not be used."""

    def raise_failures(self) -> None:
        """Raise `ValueError` naming every video that could not be used, if there is any."""
        if self.failures:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.failures.items())
            raise ValueError(
                f"{len(self.failures)} of {len(self.failures) + len(self.duration_s)} video(s) cannot be used: {reasons}. "
                "Check paths and files, or leave these out."
            )


class Predictor:
    """An exported detector in memory. Detections are those of the evaluation stage of the run that trained it."""

    def __init__(self, spec: DetectorSpec, network: nn.Module, device: str = "cpu") -> None:
        self.spec = spec
        self._device = device
        self._network = network.to(device).eval()

    @classmethod
    def from_directory(cls, directory: str | Path, device: str | None = None) -> "Predictor":
        """Load an exported detector. Reads JSON and safetensors only: no code in the directory is run.

        Args:
            directory: a packaged MLflow model, or the folder in it that holds `model.json` and `weights.safetensors`.
            device: such as `cpu` or `cuda:0`; by default a GPU if there is one.

        Raises:
            ValueError: the directory is no exported detector, or is damaged.
        """
        folder = detector_folder(Path(directory))
        spec = read_spec(folder)
        return cls(spec, load_network(folder, spec), device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def predict(self, sources: Sequence[VideoSource], names: Sequence[str] | None = None) -> Prediction:
        """Detect actions in videos, one after the other. One bad video does not stop the others: see `failures`.

        Args:
            sources: paths, URLs, or encoded videos.
            names: what to call them; by default their paths and URLs as given.

        Raises:
            ValueError: two videos have one name.
        """
        called = [source_name(source, index) for index, source in enumerate(sources)] if names is None else list(names)
        if len(set(called)) != len(sources):
            raise ValueError(
                f"{len(sources)} videos have the names {called}: give each its own name, and each video once"
            )
        prediction = Prediction()
        for name, source in zip(called, sources, strict=True):
            try:
                duration_s, detections = self.detect(fetch_video(source), name)
            except DataError as error:
                prediction.failures[name] = error.reason
            else:
                prediction.duration_s[name] = duration_s
                prediction.detections.extend(detections)
        return prediction

    def detect(self, video: bytes, name: str) -> tuple[float, list[Detection]]:
        """The video's duration in seconds, and its detections by descending score.

        Raises:
            DataError: the video cannot be decoded to its end.
        """
        duration_s = probe_video(video).duration_s
        return duration_s, self._named(self._detect(video, duration_s), name)

    def _detect(self, video: bytes, duration_s: float) -> VideoDetections:
        config = self.spec.window
        table = tile(_OneVideo(np.array([duration_s])), config)
        found = []
        for first, stop in _batches(len(table)):
            frames, mask = _load_windows(video, table, range(first, stop), config)
            found += detect_windows(self._network, frames.to(self._device), mask.to(self._device), self.spec.inference)
        windows = list(zip(table.start_frames.tolist(), found, strict=True))
        return merge_windows(windows, fps=config.fps, duration_s=duration_s, nms=self.spec.inference.nms)

    def _named(self, found: VideoDetections, name: str) -> list[Detection]:
        rows = zip(found.segments_s.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        return [
            Detection(video=name, label=self.spec.classes[label], start_s=start_s, end_s=end_s, score=score)
            for (start_s, end_s), score, label in rows
        ]


def detector_folder(directory: Path) -> Path:
    """The folder with `model.json` of a packaged model, or the directory itself if it is that folder.

    Raises:
        ValueError: it is neither.
    """
    for folder in (directory, directory / PACKAGED_AT):
        if (folder / SPEC_NAME).is_file():
            return folder
    raise ValueError(
        f"{directory} is no exported detector: there is no {SPEC_NAME} in it, nor in {PACKAGED_AT}/. Pass the folder of a "
        "packaged model, or models:/NAME@champion."
    )


class _OneVideo(NamedTuple):
    """As much of a manifest as tiling asks for."""

    duration_s: NDArray[np.float64]  # [1]


def _batches(windows: int) -> Iterator[tuple[int, int]]:
    for first in range(0, windows, BATCH_WINDOWS):
        yield first, min(first + BATCH_WINDOWS, windows)


def _load_windows(video: bytes, table: WindowTable, windows: range, config: WindowConfig) -> tuple[Tensor, Tensor]:
    """Frames `[B, T, H, W, 3]` and mask `[B, T]` of neighbouring windows, as `tadscale.data.windows.cut_window` makes them.

    What windows share is decoded once: with half-overlapping ones that is 320 frames instead of 512.
    """
    starts, valid = table.start_frames[windows.start : windows.stop], table.valid_frames[windows.start : windows.stop]
    times_s = np.arange(starts[0], starts[-1] + valid[-1]) / config.fps  # [shared]
    shared = decode_frames(video, times_s, (config.height, config.width))  # [shared, H, W, 3]
    frames = np.zeros((len(windows), config.frames, config.height, config.width, 3), np.uint8)
    for place, (start, count) in enumerate(zip(starts - starts[0], valid, strict=True)):
        frames[place, :count] = shared[start : start + count]
    mask = np.arange(config.frames) < valid[:, None]  # [B, T]
    return torch.from_numpy(frames), torch.from_numpy(mask)
