"""A job's trained backbones as makers of features: the RGB start, and the backbone of the motion teacher."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from tadscale.data.extractor_spec import EXTRACTOR_NAME, EXTRACTOR_WEIGHTS_NAME
from tadscale.data.feature_files import NOTHING, Compute
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.windows import WindowConfig
from tadscale.engine.start import load_start, start_digest
from tadscale.errors import UserError
from tadscale.flow.motion import build_motion, window_motion
from tadscale.models.backbones.base import Backbone, BackboneSettings
from tadscale.network import load_network, spec_digest
from tadscale.runtime.stage.job import JobConfig
from tadscale.serving.extract import Motion, stream_rows
from tadscale.serving.feature_extractor import NOT_ITS_MAKE, describe_extractor


class Extractor(NamedTuple):
    """Something that makes features of videos."""

    compute: Compute
    stride: int
    """Sampled frames from one row to the next."""
    offset: float
    """Sampled frame at the middle of row 0."""
    identity: str
    """Network, weights and sampling, by content."""
    beside: Mapping[str, bytes]
    """Files by which it can be built again, where somebody will: what makes RGB features is needed at use, flow is not."""


def extractors(job: JobConfig, given: str | None = None) -> dict[str, Extractor]:
    """`rgb`, from model.backbone.weights, and where teacher.url names a teacher `flow`, from its backbone.

    Args:
        job: with weights that are at hand.
        given: where its file names those of RGB, to be told to people.

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
    weights_sha256, window = start_digest(url), job.data.window
    spec, weights = describe_extractor(
        job.model.backbone, backbone, window, weights_url=given or url, weights_sha256=weights_sha256
    )
    beside = {EXTRACTOR_WEIGHTS_NAME: weights, EXTRACTOR_NAME: (spec.model_dump_json(indent=1) + "\n").encode()}
    rgb = _extractor(backbone, window, device, f"{_described(job.model.backbone)} {weights_sha256}", beside=beside)
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
    made_by, motion = f"{fingerprint} {spec_digest(url)}", partial(window_motion, build_motion(job.motion))
    return _extractor(backbone, window, job.cluster.motion_device, made_by, motion=motion)


def _extractor(
    backbone: Backbone,
    window: WindowConfig,
    device: str,
    made_by: str,
    *,
    motion: Motion | None = None,
    beside: Mapping[str, bytes] = NOTHING,
) -> Extractor:
    backbone.to(device).eval().requires_grad_(False)

    def compute(video: bytes, duration_s: float) -> NDArray[np.float32]:
        return np.concatenate(list(stream_rows(backbone, video, duration_s, window, device=device, motion=motion)))

    identity = f"{made_by}, {window.frames} frames of {window.height}x{window.width} at {window.fps:g} fps"
    identity += ", cropped" if window.resize == "crop" else ""
    return Extractor(compute, backbone.stride, backbone.offset, identity, beside)


def _described(settings: BackboneSettings) -> str:
    """All that decides what a backbone computes besides its weights: a temporal shift shows in none of them."""
    return settings.model_dump_json(exclude=NOT_ITS_MAKE)
