"""Videos in, detections out: the exported detector at work."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tadscale.data.decode import VideoInfo, probe_video
from tadscale.data.quarantine import DataError
from tadscale.data.stored import EncodedVideo
from tadscale.data.watched import Watch, unwatched, watched
from tadscale.data.windows import WindowTable, tile
from tadscale.errors import UserError
from tadscale.models.heads.base import WindowDetections
from tadscale.network import FORMAT_1_NAME, SPEC_NAME, NetworkSpec, load_network
from tadscale.segments import Detection
from tadscale.serving.access import Access
from tadscale.serving.feature_extractor import FeatureExtractor, load_extractor
from tadscale.serving.path import DetectionPath
from tadscale.serving.sources import VideoSource, fetch_video, source_name

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
    info: dict[str, VideoInfo] = field(default_factory=dict)
    """What the file of each of them says of itself."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why each other video could not be used."""
    limited: dict[str, int] = field(default_factory=dict)
    """Videos with as many detections as may be kept of one, and how many that is: weaker ones may have been cut off."""

    def raise_failures(self) -> None:
        """Raise `ValueError` naming every video that could not be used, if there is any."""
        if self.failures:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.failures.items())
            raise UserError(
                f"{len(self.failures)} of {len(self.failures) + len(self.duration_s)} video(s) cannot be used: {reasons}. "
                "Check paths and files, or leave these out."
            )


class Predictor:
    """An exported detector in memory. Detections are those of the evaluation stage of the run that trained it.

    Args:
        spec: what it is.
        network: with its weights.
        device: where it is computed.
        extractor: what makes its features of a video, where it reads features.

    Raises:
        UserError: it detects nothing in videos, for it reads flow, or features of which nothing here says how they are made.
    """

    def __init__(
        self, spec: NetworkSpec, network: nn.Module, device: str = "cpu", extractor: FeatureExtractor | None = None
    ) -> None:
        if spec.mode in ("teacher", "pretrain"):
            reads = "a motion teacher: it reads optical flow" if spec.reads_motion else "a backbone's start"
            raise UserError(
                f"this network is {reads}, and detects nothing in videos. Detect with the student that came of it"
            )
        if spec.window.features != (None if extractor is None else extractor.rows):
            raise UserError(
                f"this network reads features ({spec.window.features}), and what computes them of a video is not part of "
                "it: it detects nothing in raw video. They were not made by `tadscale data extract`, as published ones are "
                "not, or the weights that made them were gone when it was registered. Compute the features of your videos "
                "as those were, make shards of them (`tadscale data features`), and run the job that trained it as kind: "
                "evaluate on those; or train on features of a backbone here (`tadscale data features JOB.yaml URL`), or on "
                "videos"
            )
        self.spec = spec
        self._extractor = extractor
        self._path = DetectionPath.of(spec)
        self._device = device
        self._network = network.to(device).eval()

    @classmethod
    def from_directory(cls, directory: str | Path, device: str | None = None) -> "Predictor":
        """Load an exported detector. Reads JSON and safetensors only: no code in the directory is run.

        Args:
            directory: a packaged MLflow model, or the folder in it that holds the description and the weights.
            device: such as `cpu` or `cuda:0`; by default a GPU if there is one.

        Raises:
            UserError: the directory is no exported detector, or is damaged.
        """
        folder = str(detector_folder(Path(directory)))
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        network, spec = load_network(folder)
        extractor = None if spec.extractor is None else load_extractor(folder, spec.extractor, device)
        return cls(spec, network, device, extractor)

    def predict(
        self,
        sources: Sequence[VideoSource],
        names: Sequence[str] | None = None,
        *,
        top_k: int | None = None,
        access: Access | None = None,
        watch: Watch = unwatched,
    ) -> Prediction:
        """Detect actions in videos, one after the other. One bad video does not stop the others: see `failures`.

        Args:
            sources: paths, URLs, or encoded videos.
            names: what to call them; by default their paths and URLs as given.
            top_k: the most detections kept of one video, the strongest; by default as in evaluation (`nms.top_k`).
            access: what may be read; by default as the environment says.
            watch: told after each video how many are done.

        Raises:
            UserError: two videos have one name, or `top_k` is not positive.
        """
        called = [source_name(source, index) for index, source in enumerate(sources)] if names is None else list(names)
        if len(set(called)) != len(sources):
            raise UserError(
                f"{len(sources)} videos have the names {called}: give each its own name, and each video once"
            )
        kept = self.spec.inference.nms.top_k if top_k is None else _at_least_one(top_k)
        prediction, allowed = Prediction(), access or Access.from_environment()
        until = time.monotonic() + allowed.answer_s
        for name, source in watched(list(zip(called, sources, strict=True)), watch):
            try:
                info, detections = self._detect(fetch_video(source, allowed), name, kept, until)
            except DataError as error:
                prediction.failures[name] = error.reason
            else:
                prediction.duration_s[name], prediction.info[name] = info.duration_s, info
                prediction.detections.extend(detections)
                if len(detections) >= kept:
                    prediction.limited[name] = kept
        return prediction

    def detect(
        self, video: EncodedVideo, name: str, *, top_k: int | None = None, until: float = math.inf
    ) -> tuple[float, list[Detection]]:
        """The video's duration in seconds, and its detections by descending score.

        Of an hour of video no more pictures are in memory than of a minute: those of a few windows.

        Args:
            video: the encoded video.
            name: what its detections call it.
            top_k: see `predict`.
            until: when it is given up, on the clock of `time.monotonic`.

        Raises:
            DataError: the video cannot be decoded to its end, or not until then.
            UserError: `top_k` is not positive.
        """
        info, detections = self._detect(video, name, top_k, until)
        return info.duration_s, detections

    def _detect(
        self, video: EncodedVideo, name: str, top_k: int | None, until: float
    ) -> tuple[VideoInfo, list[Detection]]:
        path = self._path if top_k is None else _keeping(self._path, top_k)
        info = probe_video(video)
        duration_s = info.duration_s
        table, batches = self._cut(video, duration_s)
        by_window: list[WindowDetections] = []
        for windows, mask in batches:
            if time.monotonic() > until:
                raise DataError(f"there was time for {len(by_window)} of its {len(table)} windows ({duration_s:.3g} s)")
            by_window += self.detect_windows(windows, mask)
        by_start = list(zip(table.start_frames.tolist(), by_window, strict=True))
        return info, path.merge(by_start, video=name, duration_s=duration_s)

    def _cut(
        self, video: EncodedVideo, duration_s: float
    ) -> tuple[WindowTable, Iterator[tuple[NDArray, NDArray[np.bool_]]]]:
        """A video's windows, as a table and as they are cut: of its pictures, or of the features that are made of them."""
        window = self.spec.window
        if self._extractor is None:
            table = tile(_OneVideo(np.array([duration_s])), window)
            return table, self._path.stream(video, table, BATCH_WINDOWS)
        table = tile(_OneVideo(np.array([self._extractor.count(duration_s) / window.fps])), window)
        return table, self._path.windows(self._extractor.stream(video, duration_s), table, BATCH_WINDOWS)

    def detect_windows(self, windows: NDArray, mask: NDArray[np.bool_]) -> list[WindowDetections]:
        """Detections of windows `[n, T, H, W, 3]` (or of features `[n, T, C]`) of which the frames `[n, T]` exist, before
        anything is merged."""
        return self._path.detect(self._network, self._put(windows), self._put(mask))

    def _put(self, array: NDArray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def detector_folder(directory: Path) -> Path:
    """The folder with the network of a packaged model, or the directory itself if it is that folder.

    Raises:
        UserError: it is neither.
    """
    for folder in (directory, directory / PACKAGED_AT):
        if (folder / SPEC_NAME).is_file() or (folder / FORMAT_1_NAME).is_file():
            return folder
    raise UserError(
        f"{directory} is no exported detector: there is no {SPEC_NAME} in it, nor in {PACKAGED_AT}/. Pass the folder of a "
        "packaged model, or models:/NAME@champion."
    )


def _keeping(path: DetectionPath, top_k: int) -> DetectionPath:
    """The same path with another limit on a video's detections."""
    inference = path.inference
    nms = inference.nms.model_copy(update={"top_k": _at_least_one(top_k)})
    return replace(path, inference=inference.model_copy(update={"nms": nms}))


def _at_least_one(top_k: int) -> int:
    if top_k < 1:
        raise UserError(
            f"top_k is {top_k}: at least one detection must be kept of a video; leave it out for the default"
        )
    return top_k


class _OneVideo(NamedTuple):
    """As much of a manifest as tiling asks for."""

    duration_s: NDArray[np.float64]  # [1]
