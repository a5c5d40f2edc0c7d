"""Self-attention within a local window, as a transformer block over a feature sequence."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.channels_last import StepLinear, StepNorm, TimeConv, max_pool

BLOCK_STEPS = 32
"""Queries that share their keys. With a reach of 9, 32 queries have 50 keys, where each alone would have 19: less is
computed for nothing with short blocks, less is copied with long ones, and torch's CPU kernel works on 32 rows at a time."""


class LocalAttention(nn.Module):
    """Multi-head self-attention in which step t sees steps t - reach .. t + reach.

    ActionFormer (Zhang, Wu, Li, ECCV 2022, on its encoder): depth-wise convolutions of width 3 before the projections,
    strided where the pyramid halves the sequence. Exact and linear in length.
    """

    def __init__(self, dim: int, *, heads: int, reach: int, stride: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.mixers = nn.ModuleList(
            TimeConv(dim, dim, 3, stride=stride, padding=1, groups=dim, bias=False) for _ in range(3)
        )
        self.norms = nn.ModuleList(StepNorm(dim) for _ in range(3))
        self.projections = nn.ModuleList(StepLinear(dim, dim) for _ in range(3))
        self.out = StepLinear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, L, D]` and the mask of the *output* `[B, L']`, to `[B, L', D]`; finite, but without meaning, where masked."""
        query, key, value = (
            project(norm(mix(x)))  # [B, L', D]
            for mix, norm, project in zip(self.mixers, self.norms, self.projections, strict=True)
        )
        mixed: Tensor = self.out(attend_locally(query, key, value, mask, heads=self.heads, reach=self.reach))
        return mixed


class TransformerBlock(nn.Module):
    """Pre-norm transformer block with local attention; a stride of 2 halves the sequence (max-pooled on the skip path)."""

    def __init__(self, dim: int, *, heads: int, reach: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.attention_norm = StepNorm(dim)
        self.attention = LocalAttention(dim, heads=heads, reach=reach, stride=stride)
        self.mlp_norm = StepNorm(dim)
        self.mlp = nn.Sequential(StepLinear(dim, 4 * dim), nn.GELU(), StepLinear(4 * dim, dim))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, L, D]`, `[B, L]` to the same at `ceil(L / stride)`."""
        skip = x
        if self.stride > 1:
            skip = max_pool(x, 3, self.stride)
            mask = mask[:, :: self.stride]
        valid = mask.unsqueeze(2).to(x.dtype)
        x = (skip + self.attention(self.attention_norm(x), mask)) * valid
        return (x + self.mlp(self.mlp_norm(x))) * valid, mask


def attend_locally(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, heads: int, reach: int) -> Tensor:
    """Scaled dot-product attention of every step to the valid steps within `reach` of it.

    The steps are taken in blocks: the queries of one attend to its own keys and to `reach` more on either side, under a
    mask that leaves a band.

    Args:
        query, key, value: `[B, L, D]`, the heads' channels one after the other.
        mask: `[B, L]` bool, steps that exist.
        heads: their number divides D.
        reach: steps seen on either side, in a sequence of any length.

    Returns:
        `[B, L, D]`; a masked step's value is finite and means nothing.
    """
    steps, block = query.shape[1], max(BLOCK_STEPS, reach)
    query, key, value, seen = (_in_blocks(side, block) for side in (query, key, value, mask.unsqueeze(2)))
    key, value, seen = (_with_neighbours(side, reach) for side in (key, value, seen))  # [B, N, block + 2 reach, ...]
    distance = _distances(block, reach, mask.device)
    # A step sees itself even where it is masked: the softmax of nothing is NaN.
    visible = (distance <= reach) & seen.transpose(2, 3) | (distance == 0)  # [B, N, block, block + 2 reach]
    query, key, value = (  # [B N, H, block ..., d]
        side.flatten(0, 1).unflatten(2, (heads, -1)).transpose(1, 2) for side in (query, key, value)
    )
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible.flatten(0, 1).unsqueeze(1))
    return mixed.transpose(1, 2).flatten(2).unflatten(0, (len(mask), -1)).flatten(1, 2)[:, :steps]


def _in_blocks(x: Tensor, block: int) -> Tensor:
    """`[B, L, D]` to `[B, N, block, D]`, zeros at the end."""
    missing = -x.shape[1] % block
    return (F.pad(x, (0, 0, 0, missing)) if missing else x).unflatten(1, (-1, block))


def _with_neighbours(blocks: Tensor, reach: int) -> Tensor:
    """Each block with the last `reach` steps of the one before and the first of the one after; zeros beyond the ends."""
    block = blocks.shape[2]
    before = F.pad(blocks[:, :-1, block - reach :], (0, 0, 0, 0, 1, 0))
    after = F.pad(blocks[:, 1:, :reach], (0, 0, 0, 0, 0, 1))
    return torch.cat([before, blocks, after], dim=2)


def _distances(block: int, reach: int, device: torch.device) -> Tensor:
    """Steps between a block's queries and its keys, its neighbours' included: `[block, block + 2 reach]`."""
    query, key = torch.arange(block, device=device), torch.arange(-reach, block + reach, device=device)
    return (key - query.unsqueeze(1)).abs()
