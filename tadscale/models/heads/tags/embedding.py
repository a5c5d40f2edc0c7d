"""The snippet embedding: transformer blocks in which every step sees the whole window."""

import torch
from torch import Tensor, nn

from tadscale.models.heads.tags.rotary import rotated
from tadscale.models.temporal import ChannelNorm


class GlobalAttention(nn.Module):
    """Multi-head self-attention over all valid steps (Nag et al., ECCV 2022, sec. 3.1)."""

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.ModuleList(nn.Conv1d(dim, dim, 1) for _ in range(3))
        self.out = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, D, L]`, `[B, L]` to `[B, D, L]`."""
        query, key, value = (project(x).unflatten(1, (self.heads, -1)) for project in self.projections)  # [B, H, d, L]
        scores = torch.einsum("bhdt,bhds->bhts", rotated(query), rotated(key)) * query.shape[2] ** -0.5  # [B, H, L, L]
        # A finite floor: a window without a valid step gets even weights, not NaN; it is masked out by the caller.
        weights = scores.masked_fill(~mask[:, None, None], -1e4).softmax(dim=-1)
        return self.out(torch.einsum("bhts,bhds->bhdt", weights, value).flatten(1, 2))


class EmbeddingBlock(nn.Module):
    """Pre-norm transformer block with global attention; invalid steps are kept at zero."""

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        self.attention_norm = ChannelNorm(dim)
        self.attention = GlobalAttention(dim, heads=heads)
        self.mlp_norm = ChannelNorm(dim)
        self.mlp = nn.Sequential(nn.Conv1d(dim, 4 * dim, 1), nn.GELU(), nn.Conv1d(4 * dim, dim, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, D, L]`, `[B, L]` to `[B, D, L]`."""
        valid = mask.unsqueeze(1).to(x.dtype)  # [B, 1, L]
        x = (x + self.attention(self.attention_norm(x), mask)) * valid
        return (x + self.mlp(self.mlp_norm(x))) * valid
