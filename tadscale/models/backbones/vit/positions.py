"""Where a token is in its clip: fixed sines and cosines, as VideoMAE has them."""

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 14  # places a side in the pictures of 224 pixels that the published networks were trained on
WAVELENGTHS = 10_000.0


def sinusoid(tokens: int, dim: int, device: torch.device | None = None) -> Tensor:
    """The table `[tokens, dim]` of Vaswani et al. 2017 (Section 3.5), float64: sine in even channels, cosine in odd ones."""
    channel = torch.arange(dim, dtype=torch.float64, device=device)
    place = torch.arange(tokens, dtype=torch.float64, device=device)
    angle = place[:, None] / WAVELENGTHS ** (2 * (channel // 2) / dim)  # [N, D]
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())


def clip_positions(steps: int, rows: int, columns: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Positions of a clip's tokens, `[steps * rows * columns, dim]` float64, the last axis of the grid fastest.

    The table counts the tokens of a clip of 224 pixels one by one. For other sizes it is interpolated over space (bicubic),
    so that a place means the same part of the picture.
    """
    table = sinusoid(steps * SIDE * SIDE, dim, device)
    if (rows, columns) == (SIDE, SIDE):
        return table
    maps = table.view(steps, SIDE, SIDE, dim).permute(0, 3, 1, 2)  # [S, D, 14, 14]
    resized = F.interpolate(maps, size=(rows, columns), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).reshape(-1, dim)
