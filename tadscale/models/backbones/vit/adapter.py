"""What is trained in a frozen transformer: an adapter that sees neighbouring steps.

Liu et al., End-to-End Temporal Action Detection with 1B Parameters Across 1000 Frames, CVPR 2024 (AdaTAD, Section 3.3): the
temporal-informative adapter.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

NARROWING = 4  # channels of the trunk over those of the adapter: the paper's ratio of 0.25
KERNEL = 3  # steps that its convolution sees


class TemporalAdapter(nn.Module):
    """A bottleneck with a depth-wise convolution over the whole window's steps, added to what goes through.

    The trunk sees one clip at a time; here alone, a clip learns of its neighbours. The up-projection is zero at the start,
    so that the network begins as the one that was published. The published code multiplies by one more learned number,
    which the up-projection can do.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = dim // NARROWING
        self.down = nn.Linear(dim, inner)
        self.over_time = nn.Conv1d(inner, inner, KERNEL, padding=KERNEL // 2, groups=inner)
        self.over_channels = nn.Conv1d(inner, inner, 1)
        self.up = nn.Linear(inner, dim)
        nn.init.trunc_normal_(self.down.weight, std=0.02)
        nn.init.normal_(self.over_time.weight, std=math.sqrt(2 / KERNEL))
        nn.init.normal_(self.over_channels.weight, std=math.sqrt(2 / inner))
        nn.init.zeros_(self.up.weight)
        for layer in (self.down, self.over_time, self.over_channels, self.up):
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, tokens: Tensor, batch: int, places: int) -> Tensor:
        """Add what the adapter sees.

        Args:
            tokens: `[B * clips, steps * places, D]`, the clips of each window adjacent.
            batch: B.
            places: tokens of a step.
        """
        inner = F.gelu(self.down(tokens))  # [B * clips, steps * places, I]
        window = inner.reshape(batch, -1, places, inner.shape[-1])  # [B, L, P, I]
        rows = window.permute(0, 2, 3, 1).flatten(0, 1)  # [B * P, I, L]
        mixed = self.over_channels(self.over_time(rows)).unflatten(0, (batch, places)).permute(0, 3, 1, 2)
        return tokens + self.up(inner + mixed.reshape(inner.shape))
