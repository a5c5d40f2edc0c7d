"""Motion as pictures: the colour wheel for optical flow, grey around zero for gradients."""

import math

import torch
from torch import Tensor

# Hues between the corners of the wheel, red to yellow to green to cyan to blue to magenta to red: more where the eye tells
# more apart.
WHEEL_STEPS = (15, 6, 4, 11, 13, 6)
CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0))


def motion_colours(motion: Tensor, full: float | None = None) -> Tensor:
    """Pictures of any motion modality.

    Args:
        motion: `[C, T, H, W]`, as a `Motion` makes it of one window: 2 channels are flow, 3 a temporal gradient.
        full: the magnitude that is drawn at full strength; None for the 99th percentile of the window's magnitudes.

    Returns:
        `[T, H, W, 3]` uint8 RGB.

    Raises:
        ValueError: another number of channels.
    """
    if motion.shape[0] not in (2, 3):
        raise ValueError(f"motion has 2 channels (flow) or 3 (gradient), got {list(motion.shape)} as [C, T, H, W]")
    fields = motion.float().transpose(0, 1)  # [T, C, H, W]
    size = fields.norm(dim=1) if motion.shape[0] == 2 else fields.abs().amax(dim=1)  # [T, H, W]
    if full is None:
        full = float(size.flatten().kthvalue(max(1, round(0.99 * size.numel()))).values)
    fields = fields / max(full, 1e-6)
    return flow_colours(fields) if motion.shape[0] == 2 else _around_grey(fields)


def flow_colours(flow: Tensor) -> Tensor:
    """The colour wheel of Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 2011.

    Hue is the direction (to the right red, down yellow, to the left cyan to blue, up violet), saturation the length: white
    where nothing moves, full at length 1, darker beyond.

    Args:
        flow: `[T, 2, H, W]`, u to the right and v down.

    Returns:
        `[T, H, W, 3]` uint8 RGB.
    """
    wheel = colour_wheel().to(flow.device)  # [N, 3]
    u, v = flow.unbind(dim=1)  # [T, H, W]
    length = torch.hypot(u, v).unsqueeze(-1)  # [T, H, W, 1]
    place = (torch.atan2(-v, -u) / math.pi + 1) / 2 * (len(wheel) - 1)  # [T, H, W], 0..N-1
    before = place.floor().long().clamp(0, len(wheel) - 1)
    share = (place - before).unsqueeze(-1)
    hue = wheel[before] * (1 - share) + wheel[(before + 1) % len(wheel)] * share  # [T, H, W, 3]
    colour = torch.where(length <= 1, 1 - length * (1 - hue), 0.75 * hue)
    return (255 * colour).to(torch.uint8)


def colour_wheel() -> Tensor:
    """The wheel's hues, `[55, 3]` RGB in 0..1."""
    arcs = []
    for steps, start, end in zip(WHEEL_STEPS, CORNERS[:-1], CORNERS[1:], strict=True):
        share = (torch.arange(steps) / steps).unsqueeze(1)
        arcs.append(torch.tensor(start) * (1 - share) + torch.tensor(end) * share)
    return torch.cat(arcs)


def _around_grey(fields: Tensor) -> Tensor:
    """Differences `[T, 3, H, W]` in [-1, 1] as `[T, H, W, 3]`: no change is mid grey."""
    return (127.5 * (1 + fields.clamp(-1, 1))).to(torch.uint8).permute(0, 2, 3, 1)
