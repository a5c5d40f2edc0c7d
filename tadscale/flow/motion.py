"""What the teacher sees: a motion modality made from frames, chosen by one word."""

from collections.abc import Sequence
from typing import Literal, Protocol, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from tadscale.config import Config
from tadscale.flow import precomputed
from tadscale.flow.dis import Dis, DisConfig
from tadscale.flow.estimator import FlowMotion, clipped_fingerprint
from tadscale.flow.raft.config import RaftConfig
from tadscale.flow.raft.estimator import Raft
from tadscale.flow.temporal_gradient import (
    FAST_SPAN_FRAMES,
    SLOW_SPAN_FRAMES,
    TemporalGradient,
    gradient_fingerprint,
)
from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.estimator import Tvl1


class Motion(Protocol):
    """A motion modality: a pure function from a window's frames to as many motion fields."""

    @property
    def channels(self) -> int:
        """Channels of a field: 2 for optical flow (u, v), 3 for a temporal gradient (R, G, B), any number of features."""
        ...

    @property
    def span_frames(self) -> int:
        """How far a field looks ahead: it is made of frames t and t + span_frames."""
        ...

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames to motion, on the frames' device.

        Args:
            frames: `[B, T, H, W, 3]` uint8 RGB.

        Returns:
            `[B, C, T, H, W]` float32 in [-1, 1]. Flow is in pixels a frame at the given size, clipped to
            [-clip_px, clip_px] and divided by clip_px; channel 0 is u (x, to the right), channel 1 is v (y, down), so a
            horizontal flip of the frames flips the fields and negates u. T frames give T fields: what would reach
            past the window's end repeats the last field.

        Raises:
            ValueError: frames of another shape or dtype, or too few of them.
        """
        ...

    def fingerprint(self) -> str:
        """Method and every parameter that changes the result.

        A teacher does not transfer between motion methods: cache keys and model cards hold this string, beside the size
        and the frame rate of the frames.
        """
        ...


def window_motion(motion: Motion, frames: Tensor, valid_frames: Sequence[int]) -> Tensor:
    """Motion of windows of which some are longer than their video: of the frames that exist, and none where there are none.

    Flow into the padding would show the picture leaving for black. Padded windows are computed by their lengths; a video too
    short for the modality goes on with its last picture.

    Args:
        motion: the modality.
        frames: `[B, T, H, W, 3]` uint8, padded at the end; or what precomputed motion is read from, which says itself that
            nothing moves in the padding.
        valid_frames: of each window, at least 1.

    Returns:
        `[B, C, T, H, W]`, see `Motion`.

    Raises:
        ValueError: frames of another shape or dtype.
    """
    length = frames.shape[1]
    if motion.span_frames == 0 or min(valid_frames) == length > motion.span_frames:
        return motion(frames)
    out = frames.new_zeros(frames.shape[0], motion.channels, *frames.shape[1:4], dtype=torch.float32)
    for count in sorted(set(valid_frames)):
        rows = [row for row, valid in enumerate(valid_frames) if valid == count]
        existing = frames[rows, :count]
        missing = max(0, motion.span_frames + 1 - count)
        last = existing[:, -1:].expand(-1, missing, -1, -1, -1)
        existing = torch.cat([existing, last], dim=1)  # [b, count or more, H, W, 3]
        out[rows, :, :count] = motion(existing)[:, :, :count]
    return out


class MotionConfig(Config):
    """Which motion modality, and its settings."""

    name: Literal[
        "tvl1", "dis", "raft", "temporal_gradient_fast", "temporal_gradient_slow", "precomputed", "features"
    ] = "tvl1"
    """`tvl1`: the paper's optical flow, on CPU and GPU. `dis`: optical flow for a half (`medium`) to a sixteenth
    (`ultrafast`) of the cost on a CPU, and less exact.
    `raft`: learned optical flow, from a file of weights, for frames of at least 128 px a side; at home on a GPU.
    `temporal_gradient_fast` and `_slow`: differences of frames 1 and 7 apart. `precomputed`: flow that lies in shards of
    its own, as `tadscale data flow` writes them; it must fit the windows' frame rate. `features`: flow features, which lie
    beside the RGB features in shards of `tadscale data features`."""
    clip_px: float | None = Field(default=None, gt=0)
    """Bound of optical flow in pixels a frame, which becomes 1.0. The default is 20 px for frames of 224 px, in
    proportion to the shorter side: 20 * min(height, width) / 224."""
    tvl1: Tvl1Config = Tvl1Config()
    """Settings of `tvl1`."""
    dis: DisConfig = DisConfig()
    """Settings of `dis`."""
    raft: RaftConfig = RaftConfig()
    """Settings of `raft`."""
    flow_url: str | None = None
    """Shards of flow under the videos' keys: of flow pictures for `precomputed`, for `features` those of data.url."""
    feature_channels: PositiveInt = 1024
    """Channels of flow features, for `features`; I3D's are 1024."""

    @model_validator(mode="after")
    def _precomputed_lies_somewhere(self) -> Self:
        precomputed = self.name in ("precomputed", "features")
        if precomputed != (self.flow_url is not None):
            raise ValueError(
                "motion.flow_url says where flow lies that was computed before: it goes with name precomputed or features"
            )
        if precomputed and self.clip_px is not None:
            raise ValueError(
                "clip_px bounds flow when it is computed: precomputed flow is bounded already, leave it out"
            )
        return self

    @model_validator(mode="after")
    def _clip_is_for_flow(self) -> Self:
        if self.clip_px is not None and self.name.startswith("temporal_gradient"):
            raise ValueError(f"clip_px bounds optical flow, and {self.name} has no displacements: leave clip_px out")
        return self

    @model_validator(mode="after")
    def _raft_has_weights(self) -> Self:
        if self.name == "raft":
            self.raft.weights_path()
        return self

    def fingerprint(self) -> str:
        """What the built motion's `fingerprint()` says, from the settings alone; for RAFT the weights' file is digested.

        Raises:
            ValueError: RAFT's weights are not on this machine.
        """
        match self.name:
            case "tvl1":
                return clipped_fingerprint(self.tvl1.fingerprint(), self.clip_px)
            case "dis":
                return clipped_fingerprint(self.dis.fingerprint(), self.clip_px)
            case "raft":
                return clipped_fingerprint(self.raft.fingerprint(), self.clip_px)
            case "precomputed":
                return precomputed.FINGERPRINT
            case "features":
                return precomputed.features_fingerprint(self.feature_channels)
            case "temporal_gradient_fast":
                return gradient_fingerprint(FAST_SPAN_FRAMES)
            case "temporal_gradient_slow":
                return gradient_fingerprint(SLOW_SPAN_FRAMES)


def motion_channels(config: MotionConfig) -> int:
    """Channels of the modality's fields, without building it."""
    if config.name == "features":
        return config.feature_channels
    return TemporalGradient.channels if config.name.startswith("temporal_gradient") else FlowMotion.channels


def build_motion(config: MotionConfig) -> Motion:
    """The motion modality that the settings name."""
    match config.name:
        case "tvl1":
            return FlowMotion(Tvl1(config.tvl1), config.clip_px)
        case "dis":
            return FlowMotion(Dis(config.dis), config.clip_px)
        case "raft":
            return FlowMotion(Raft(config.raft), config.clip_px)
        case "precomputed":
            return precomputed.Precomputed()
        case "features":
            return precomputed.FlowFeatures(config.feature_channels)
        case "temporal_gradient_fast":
            return TemporalGradient(FAST_SPAN_FRAMES)
        case "temporal_gradient_slow":
            return TemporalGradient(SLOW_SPAN_FRAMES)
