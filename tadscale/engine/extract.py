"""Features of videos from a trained backbone: one row for every step, wherever a video is cut into chunks."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tadscale.data.windows import WindowConfig, read_frames, video_frames
from tadscale.errors import UserError
from tadscale.flow.motion import Motion, window_motion
from tadscale.models.backbones.base import Backbone
from tadscale.models.detector import as_input

CONTEXT = 4  # a quarter of a chunk is seen on either side of what is kept of it


@torch.inference_mode()
def extract_rows(
    backbone: Backbone,
    video: bytes,
    duration_s: float,
    window: WindowConfig,
    *,
    device: str,
    motion: Motion | None = None,
) -> NDArray[np.float32]:
    """The features of a video, row `r` at its sampled frame `r * backbone.stride + backbone.offset`.

    The backbone sees chunks of a window's length and keeps the middle half of each, so that no row but the video's first and
    last ones is next to padding.

    Args:
        backbone: in eval mode, on the device.
        video: the encoded file.
        duration_s: its length.
        window: frame rate and size; its length is that of a chunk.
        device: where it is computed.
        motion: what the backbone reads in place of pictures.

    Returns:
        `[ceil(frames / stride), out_channels]`.

    Raises:
        UserError: the window is too short to be cut into chunks.
        DataError: the video cannot be decoded.
    """
    stride = backbone.stride
    context = window.frames // CONTEXT // stride * stride
    if context == 0:
        raise UserError(
            f"data.window.frames = {window.frames} is too short for features: {CONTEXT} steps of {stride} frames at least"
        )
    total, kept, parts = int(video_frames(duration_s, window.fps)), 2 * context, []
    for first in range(0, total, kept):
        start, last = max(0, first - context), min(total, first + kept)
        count = min(total, last + context) - start
        frames = _whole_steps(torch.from_numpy(read_frames(video, start, count, window))[None].to(device), stride)
        seen = frames if motion is None else window_motion(motion, frames, [count])
        steps = backbone(as_input(backbone, seen))[0].float().cpu().numpy().T  # [L, C]
        parts.append(steps[(first - start) // stride : -(-(last - start) // stride)])
    return np.concatenate(parts).astype(np.float32)


def _whole_steps(frames: Tensor, stride: int) -> Tensor:
    """Frames `[1, T, H, W, 3]`, the last standing still to the end of its step: padding on both sides, such as I3D's, would
    else put all rows of an odd end some frames aside of the others."""
    return torch.cat([frames, frames[:, -1:].expand(-1, -frames.shape[1] % stride, -1, -1, -1)], dim=1)
