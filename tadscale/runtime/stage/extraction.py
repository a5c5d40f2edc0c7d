"""A job's trained backbones as makers of features: the RGB start, and the backbone of the motion teacher."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from tadscale.data.feature_files import Compute
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.windows import WindowConfig
from tadscale.engine.extract import extract_rows
from tadscale.engine.start import load_start, start_digest
from tadscale.errors import UserError
from tadscale.flow.motion import build_motion
from tadscale.models.backbones.base import Backbone, BackboneSettings
from tadscale.network import load_network, spec_digest
from tadscale.runtime.stage.job import JobConfig


class Extractor(NamedTuple):
    """Something that makes features of videos."""

    compute: Compute
    stride: int
    """Sampled frames from one row to the next."""
    offset: float
    """Sampled frame at the middle of row 0."""
    identity: str
    """Network, weights and sampling, by content."""


def extractors(job: JobConfig) -> dict[str, Extractor]:
    """`rgb`, from model.backbone.weights, and where teacher.url names a teacher `flow`, from its backbone.

    Raises:
        UserError: no weights are named or they do not fit; the teacher reads other motion than the job's, was trained on
            other sampling, has another temporal stride, or reads RGB; motion is precomputed.
        StorageError: the storage cannot be reached.
    """
    url, device = job.model.backbone.weights, job.cluster.motion_device
    if url is None:
        raise UserError("features come from a trained backbone: name its weights in model.backbone.weights")
    backbone = job.model.backbone.build(3)
    load_start(backbone, url)
    rgb = _extractor(backbone, job.data.window, device, f"{_described(job.model.backbone)} {start_digest(url)}")
    return (
        {"rgb": rgb} if job.teacher.url is None else {"rgb": rgb, "flow": _of_teacher(job, job.teacher.url, rgb.stride)}
    )


def _of_teacher(job: JobConfig, url: str, stride: int) -> Extractor:
    network, spec = load_network(url)
    if job.motion.flow_url is not None:
        raise UserError("motion is computed as features are extracted: set motion.name to what made the teacher's flow")
    window, fingerprint = job.data.window, motion_fingerprint(job.motion)
    sampled = [(one.fps, *one.size, one.resize) for one in (spec.window, window)]
    if not spec.reads_motion or spec.motion_fingerprint != fingerprint or sampled[0] != sampled[1]:
        raise UserError(
            f"teacher.url: {url} reads {spec.motion_fingerprint or 'RGB'} at (fps, height, width, resize) {sampled[0]}, and "
            f"this job has {fingerprint} at {sampled[1]}: use its motion and data.window"
        )
    backbone = cast(Backbone, network.get_submodule("backbone"))
    if backbone.stride != stride:
        raise UserError(
            f"teacher.url: {url} has a row every {backbone.stride} frames, and model.backbone one every {stride}: flow lies "
            "beside RGB row by row; use backbones of one stride"
        )
    made = partial(extract_rows, motion=build_motion(job.motion))
    return _extractor(backbone, window, job.cluster.motion_device, f"{fingerprint} {spec_digest(url)}", made)


def _extractor(
    backbone: Backbone, window: WindowConfig, device: str, made_by: str, extract: Callable[..., Any] = extract_rows
) -> Extractor:
    backbone.to(device).eval().requires_grad_(False)

    def compute(video: bytes, duration_s: float) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = extract(backbone, video, duration_s, window, device=device)
        return rows

    identity = f"{made_by}, {window.frames} frames of {window.height}x{window.width} at {window.fps:g} fps"
    identity += ", cropped" if window.resize == "crop" else ""
    return Extractor(compute, backbone.stride, backbone.offset, identity)


def _described(settings: BackboneSettings) -> str:
    """All that decides what a backbone computes besides its weights: a temporal shift shows in none of them."""
    return settings.model_dump_json(exclude={"weights", "checkpoint"})
