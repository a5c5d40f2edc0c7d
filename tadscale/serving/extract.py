"""Features of videos from a trained backbone: one row for every step, wherever a video is cut into chunks."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tadscale.data.decode import stream_frames
from tadscale.data.stored import EncodedVideo
from tadscale.data.windows import WindowConfig, video_frames
from tadscale.errors import UserError
from tadscale.models.backbones.base import Backbone
from tadscale.models.detector import as_input
from tadscale.serving.path import spans_of

CONTEXT = 4  # a quarter of a chunk is seen on either side of what is kept of it
Motion = Callable[[Tensor, Sequence[int]], Tensor]
"""Frames `[1, T, H, W, 3]`, and how many of them exist, to motion `[1, C, T, H, W]`."""


def stream_rows(
    backbone: Backbone,
    video: EncodedVideo,
    duration_s: float,
    window: WindowConfig,
    *,
    device: str,
    motion: Motion | None = None,
) -> Iterator[NDArray[np.float32]]:
    """The features of a video, row `r` at its sampled frame `r * backbone.stride + backbone.offset`.

    The backbone sees chunks of a window's length and keeps the middle half of each, so that no row but the video's first and
    last ones is next to padding. Pictures are decoded once, and those of a chunk are in memory.

    Args:
        backbone: in eval mode, on the device.
        video: the encoded file.
        duration_s: its length.
        window: frame rate and size; its length is that of a chunk.
        device: where it is computed.
        motion: what the backbone reads in place of pictures.

    Yields:
        The rows of each chunk, `[n, out_channels]`.

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
    total, kept = int(video_frames(duration_s, window.fps)), 2 * context
    pictures = stream_frames(video, np.arange(total) / window.fps, window.size, window.crop())
    firsts = range(0, total, kept)
    spans = [(max(0, first - context), min(total, first + kept + context)) for first in firsts]
    for first, (start, end), chunk in zip(firsts, spans, spans_of(pictures, spans), strict=True):
        with torch.inference_mode():
            frames = _whole_steps(torch.from_numpy(chunk)[None].to(device), stride)
            seen = frames if motion is None else motion(frames, [end - start])
            steps = backbone(as_input(backbone, seen))[0].float().cpu().numpy().T  # [L, C]
        yield steps[(first - start) // stride : -(-(min(total, first + kept) - start) // stride)].astype(np.float32)


def _whole_steps(frames: Tensor, stride: int) -> Tensor:
    """Frames `[1, T, H, W, 3]`, the last standing still to the end of its step: padding on both sides, such as I3D's, would
    else put all rows of an odd end some frames aside of the others."""
    return torch.cat([frames, frames[:, -1:].expand(-1, -frames.shape[1] % stride, -1, -1, -1)], dim=1)
