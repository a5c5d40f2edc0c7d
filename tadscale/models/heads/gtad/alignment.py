"""SGAlign: a feature vector of fixed size for every anchor, whatever its duration."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONTEXT = 0.5
"""An anchor is seen with this part of its duration before and after it (published code)."""


class SubGraphAlignment(nn.Module):
    """Sub-graph of interest alignment (Xu et al., CVPR 2020, sec. "Sub-Graph Alignment and Localization") and the linear
    layer on what it aligns, in one.

    An anchor with its context is cut into `places` equal parts. Of each part the features at `samples` points are
    interpolated and averaged, all parts are concatenated and projected to `out_dim`. Interpolation and projection are
    both linear, so they change places here: the features of L steps are projected once for each part, and an anchor sums
    interpolated rows of that table. Nothing of the size anchors x places x channels is ever made; for 1,840 anchors, 16
    places and 64 channels the table is 80 x 16 rows instead of 29,440.
    """

    def __init__(self, in_dim: int, out_dim: int, *, places: int, samples: int) -> None:
        super().__init__()
        self.places, self.samples = places, samples
        self.project = nn.Conv1d(in_dim, places * out_dim, 1, bias=False)
        nn.init.normal_(self.project.weight, std=(places * in_dim) ** -0.5)  # an anchor sums over all places

    def forward(self, x: Tensor, anchors: Tensor) -> Tensor:
        """Features `[B, D_in, L]`, zero at invalid steps, and anchors `[A, 2]` in steps, to `[B, A, D_out]`."""
        batch, _, steps = x.shape
        projected = self.project(x).unflatten(1, (self.places, -1))  # [B, P, D, L]
        # float32 also under autocast: a sum over tens of rows.
        table = (
            projected.to(torch.promote_types(x.dtype, torch.float32)).transpose(2, 3).flatten(0, 2)
        )  # [B * P * L, D]
        rows, weights = self._taps(anchors, steps)  # [A, P * S * 2]
        windows = torch.arange(batch, device=x.device)[:, None, None] * (self.places * steps)
        rows = (rows + windows).flatten(0, 1)  # [B * A, P * S * 2]
        weights = weights.to(table.dtype).expand(batch, -1, -1).flatten(0, 1)
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum").unflatten(0, (batch, -1))

    def _taps(self, anchors: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Which rows of a window's table an anchor sums, and with which weights; points outside weigh nothing."""
        points = self.sampling_points(anchors)  # [A, P, S]
        lower = points.floor()
        share = points - lower
        index = torch.stack([lower, lower + 1], dim=3).long()  # [A, P, S, 2]
        weights = torch.stack([1 - share, share], dim=3) / self.samples
        weights = weights * ((index >= 0) & (index < steps))
        place = torch.arange(self.places, device=anchors.device)[:, None, None] * steps
        return (index.clamp(0, steps - 1) + place).flatten(1), weights.flatten(1)

    def sampling_points(self, anchors: Tensor) -> Tensor:
        """Where features are interpolated, in steps: `[A, 2]` to `[A, places, samples]`."""
        count = self.places * self.samples
        start, duration = anchors[:, :1].float(), (anchors[:, 1:] - anchors[:, :1]).float()  # [A, 1]
        middle = (torch.arange(count, device=anchors.device) + 0.5) / count  # [P * S] in 0..1 of anchor with context
        points = start + duration * ((1 + 2 * CONTEXT) * middle - CONTEXT)  # [A, P * S]
        return points.unflatten(1, (self.places, self.samples))
