"""Image pyramids, spatial gradients and warping by a flow field: what coarse-to-fine flow methods share."""

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_LEVEL_SIDE_PX = 8  # below it a picture holds no texture to match: our choice


def pyramid(frames: Tensor, levels: int) -> list[Tensor]:
    """Frames `[N, H, W]` and their halvings, finest first: at most `levels`, none with a side below 8 px.

    Each level is low-pass filtered (triangle filter) before it is sampled at every other pixel. Pixel centres of a level
    lie as those of `torch.nn.functional.interpolate` with `align_corners=False`.
    """
    out = [frames]
    while len(out) < levels:
        height, width = ((side + 1) // 2 for side in out[-1].shape[-2:])
        if min(height, width) < MIN_LEVEL_SIDE_PX:
            break
        halved = F.interpolate(out[-1][:, None], (height, width), mode="bilinear", antialias=True)  # [N, 1, H/2, W/2]
        out.append(halved[:, 0])
    return out


def resize_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """Flow `[2, N, h, w]` in pixels -> `[2, N, height, width]` in pixels of the new size."""
    if flow.shape[-2:] == (height, width):
        return flow
    resized = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
    resized[0].mul_(width / flow.shape[-1])
    resized[1].mul_(height / flow.shape[-2])
    return resized


def spatial_gradient(frames: Tensor) -> Tensor:
    """Central differences of `[N, H, W]` -> `[2, N, H, W]` (d/dx, d/dy), replicated at the border."""
    padded = F.pad(frames, (1, 1, 1, 1), mode="replicate")  # [N, H + 2, W + 2]
    out = frames.new_empty(2, *frames.shape)
    torch.sub(padded[:, 1:-1, 2:], padded[:, 1:-1, :-2], out=out[0])
    torch.sub(padded[:, 2:, 1:-1], padded[:, :-2, 1:-1], out=out[1])
    return out.mul_(0.5)


def warp(source: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Sample a picture where a flow field points to, bilinearly.

    Args:
        source: `[N, C, H, W]`.
        flow: `[2, N, H, W]` in pixels.

    Returns:
        `source` at `(x + u, y + v)`, `[N, C, H, W]`, the border's value outside; and `[N, H, W]` bool, true where the
        point lies inside the picture.
    """
    height, width = source.shape[-2:]
    # Coordinates count from the picture's centre, where grid_sample has its zero: exact at the border of a still picture.
    x, y = flow[0] + _centred(width, flow), flow[1] + _centred(height, flow)[:, None]  # [N, H, W] each
    half_width, half_height = (width - 1) / 2, (height - 1) / 2
    inside = (x.abs() <= half_width) & (y.abs() <= half_height)
    grid = torch.stack((x.div_(half_width), y.div_(half_height)), dim=-1)  # [N, H, W, 2], -1 and 1 on the outer pixels
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=True), inside


def _centred(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=like.dtype, device=like.device).sub_((size - 1) / 2)
