"""Optical flow as motion: grey frames -> pairs -> an estimator -> clipped, scaled fields, one for each frame."""

from typing import Protocol

import torch
from torch import Tensor

from tadscale.errors import UserError

REFERENCE_CLIP_PX = 20.0  # the field's bound (Carreira and Zisserman, I3D, CVPR 2017) ...
REFERENCE_SIZE_PX = 224  # ... at the field's size
LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV's RGB2GRAY


class FlowEstimator(Protocol):
    """An optical flow method: pairs of grey frames in, displacements in pixels out."""

    def flow(self, frames_a: Tensor, frames_b: Tensor) -> Tensor:
        """Displacement of every pixel of `frames_a` on its way to `frames_b`.

        Args:
            frames_a: `[N, H, W]` grey, uint8 or floating point, in [0, 255].
            frames_b: `[N, H, W]`, the frames that follow, of the same dtype and device.

        Returns:
            `[N, 2, H, W]` float32 in pixels: channel 0 = u (x, to the right), channel 1 = v (y, down), so that
            `frames_a[y, x]` is seen again at `frames_b[y + v, x + u]`.
        """
        ...

    def fingerprint(self) -> str:
        """Method and every parameter that changes its result."""
        ...


class FlowMotion:
    """Motion of two channels, u and v, from any flow estimator.

    Args:
        estimator: the flow method.
        clip_px: displacements are clipped to [-clip_px, clip_px] and divided by it. None means
            `default_clip_px` of the frames' size.
    """

    channels = 2
    span_frames = 1

    def __init__(self, estimator: FlowEstimator, clip_px: float | None = None) -> None:
        self.estimator = estimator
        self.clip_px = clip_px

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames `[B, T, H, W, 3]` uint8 RGB -> flow `[B, 2, T, H, W]` float32 in [-1, 1], on the frames' device.

        Field t is the flow from frame t to frame t + 1; the last field repeats the one before it.
        """
        check_frames(frames, self.span_frames)
        batch, length, height, width, _ = frames.shape
        grey = luma(frames)  # [B, T, H, W]
        first, second = grey[:, :-1].flatten(0, 1), grey[:, 1:].flatten(0, 1)  # [B * (T - 1), H, W]
        clip_px = self.clip_px or default_clip_px(height, width)
        flow = self.estimator.flow(first, second).div_(clip_px).clamp_(-1.0, 1.0)  # [B * (T - 1), 2, H, W]
        fields = flow.view(batch, length - 1, 2, height, width).transpose(1, 2)  # [B, 2, T - 1, H, W]
        return repeat_last(fields, length)

    def fingerprint(self) -> str:
        """See `clipped_fingerprint`."""
        return clipped_fingerprint(self.estimator.fingerprint(), self.clip_px)


def clipped_fingerprint(method: str, clip_px: float | None) -> str:
    """The fingerprint of flow as motion: that of its method, and the bound."""
    clip = f"{REFERENCE_CLIP_PX:g}@{REFERENCE_SIZE_PX}" if clip_px is None else f"{clip_px:g}"
    return f"{method} clip_px={clip}"


def default_clip_px(height: int, width: int) -> float:
    """20 px at 224, in proportion to the shorter side.

    A fixed 20 px would spend the range of [-1, 1] on motion that small frames do not have: resizing a video scales
    its flow vectors. The scaling is our choice.
    """
    return REFERENCE_CLIP_PX * min(height, width) / REFERENCE_SIZE_PX


def luma(frames: Tensor) -> Tensor:
    """RGB `[..., 3]` uint8 -> grey `[...]` float32 in [0, 255] (ITU-R BT.601), not rounded."""
    red, green, blue = frames.unbind(-1)  # [...] each
    grey = red.float().mul_(LUMA_WEIGHTS[0])
    return grey.add_(green, alpha=LUMA_WEIGHTS[1]).add_(blue, alpha=LUMA_WEIGHTS[2])


def repeat_last(fields: Tensor, length: int) -> Tensor:
    """Fields `[B, C, L, H, W]` -> `[B, C, length, H, W]`, contiguous: the last field fills what is missing."""
    batch, channels, count, height, width = fields.shape
    out = fields.new_empty(batch, channels, length, height, width)
    out[:, :, :count] = fields
    out[:, :, count:] = fields[:, :, -1:]
    return out


def check_pairs(frames_a: Tensor, frames_b: Tensor, min_side_px: int) -> None:
    """Raise a ValueError unless both are `[N, H, W]` of one shape, with no side below `min_side_px`."""
    if frames_a.ndim != 3 or frames_a.shape != frames_b.shape:
        raise ValueError(
            f"flow needs two batches of grey frames [N, H, W] of one shape, got {list(frames_a.shape)} and "
            f"{list(frames_b.shape)}: stack first frames and second frames, and turn colour to grey with `luma`"
        )
    if min(frames_a.shape[1:]) < min_side_px:
        height, width = frames_a.shape[1:]
        raise UserError(
            f"flow needs frames of at least {min_side_px} px a side, got {height} x {width} (height x width): "
            "decode larger frames"
        )


def check_frames(frames: Tensor, span_frames: int) -> None:
    """Raise a ValueError unless frames are `[B, T, H, W, 3]` uint8 with T > span_frames."""
    if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(
            f"motion needs uint8 RGB frames of shape [B, T, H, W, 3], got {frames.dtype} {list(frames.shape)}: "
            "give decoded frames, channels last, before any scaling to float"
        )
    if frames.shape[1] <= span_frames:
        raise UserError(
            f"a window of {frames.shape[1]} frame(s) holds no pair of frames {span_frames} apart: "
            f"use windows of more than {span_frames} frames"
        )
