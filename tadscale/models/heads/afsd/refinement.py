"""Saliency-based refinement (Lin et al., CVPR 2021, sec. 3.3): what a moment adds to its own feature from the boundaries of
its coarse segment."""

import torch
from torch import Tensor, nn

from tadscale.models.heads.afsd.boundary_pooling import boundary_pool

Regions = tuple[Tensor, Tensor]
"""`[B, P, 2]` around the starts, and `[B, P, 2]` around the ends."""


class SaliencyRefinement(nn.Module):
    """The refined feature of every moment (Lin et al., sec. 3.3, Fig. 3): its own, the strongest of its level around its
    boundaries, and the strongest of the frames around them. One for the class, one for the boundaries."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.own = _pointwise(dim, dim)
        self.boundary = _pointwise(dim, 2 * dim)
        self.frame = _pointwise(dim, dim)
        self.merge = _pointwise(4 * dim, dim)

    def forward(self, features: Tensor, mask: Tensor, regions: Regions, frame_pooled: Tensor) -> Tensor:
        """Refined features.

        Args:
            features: `[B, P, D]` of all moments.
            mask: `[B, P]` bool.
            regions: in steps of the sequence of all moments, each within its own level.
            frame_pooled: `[B, P, D]`, the frame-level feature pooled around each moment's boundaries.

        Returns:
            `[B, P, D]`, zero where invalid.
        """
        valid = mask.unsqueeze(2)
        salient = boundary_pool(self.boundary(features) * valid, regions)  # [B, P, 2 D]
        return self.merge(torch.cat([self.frame(frame_pooled), salient, self.own(features)], dim=2)) * valid


def _pointwise(in_dim: int, dim: int) -> nn.Sequential:
    """A projection of every moment, layer normalisation, ReLU."""
    return nn.Sequential(nn.Linear(in_dim, dim, bias=False), nn.LayerNorm(dim), nn.ReLU())
