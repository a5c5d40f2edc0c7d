"""The snippet embedding: transformer blocks in which every step sees the whole window."""

import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.channels_last import StepLinear, StepNorm
from tadscale.models.heads.tags.rotary import rotated


class GlobalAttention(nn.Module):
    """Multi-head self-attention over all valid steps (Nag et al., ECCV 2022, sec. 3.1)."""

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.ModuleList(StepLinear(dim, dim) for _ in range(3))
        self.out = StepLinear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, L, D]`, `[B, L]` to `[B, L, D]`."""
        query, key, value = (  # [B, H, L, d]
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for project in self.projections
        )
        # A finite floor: a window without a valid step gets some weights, not NaN; it is masked out by the caller.
        unseen = query.new_zeros(mask.shape).masked_fill(~mask, -1e4)[:, None, None]  # [B, 1, 1, L]
        mixed = F.scaled_dot_product_attention(rotated(query), rotated(key), value, attn_mask=unseen)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended


class EmbeddingBlock(nn.Module):
    """Pre-norm transformer block with global attention; invalid steps are kept at zero."""

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        self.attention_norm = StepNorm(dim)
        self.attention = GlobalAttention(dim, heads=heads)
        self.mlp_norm = StepNorm(dim)
        self.mlp = nn.Sequential(StepLinear(dim, 4 * dim), nn.GELU(), StepLinear(4 * dim, dim))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, L, D]`, `[B, L]` to `[B, L, D]`."""
        valid = mask.unsqueeze(2).to(x.dtype)  # [B, L, 1]
        x = (x + self.attention(self.attention_norm(x), mask)) * valid
        return (x + self.mlp(self.mlp_norm(x))) * valid
