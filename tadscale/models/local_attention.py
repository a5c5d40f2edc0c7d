"""Self-attention within a local window, as a transformer block over a feature sequence."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.temporal import ChannelNorm


class LocalAttention(nn.Module):
    """Multi-head self-attention in which step t sees steps t - reach .. t + reach.

    ActionFormer (Zhang, Wu, Li, ECCV 2022, sec. 3.2): depth-wise convolutions of width 3 before the projections, strided
    where the pyramid halves the sequence. Exact and linear in length: keys are unfolded, never masked out of an L x L map.
    """

    def __init__(self, dim: int, *, heads: int, reach: int, stride: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.mixers = nn.ModuleList(
            nn.Conv1d(dim, dim, 3, stride=stride, padding=1, groups=dim, bias=False) for _ in range(3)
        )
        self.norms = nn.ModuleList(ChannelNorm(dim) for _ in range(3))
        self.projections = nn.ModuleList(nn.Conv1d(dim, dim, 1) for _ in range(3))
        self.out = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, D, L]` and the mask of the *output* `[B, L']`, to `[B, D, L']`."""
        query, key, value = (
            project(norm(mix(x))).unflatten(1, (self.heads, -1))  # [B, H, d, L']
            for mix, norm, project in zip(self.mixers, self.norms, self.projections, strict=True)
        )
        window = 2 * self.reach + 1
        key, value = (F.pad(side, (self.reach, self.reach)).unfold(3, window, 1) for side in (key, value))
        seen = F.pad(mask, (self.reach, self.reach)).unfold(1, window, 1)[:, None]  # [B, 1, L', window]
        scores = torch.einsum("bhdl,bhdlw->bhlw", query, key) * query.shape[2] ** -0.5
        # A finite floor: a step with nothing in sight gets even weights, not NaN; it is masked out below.
        weights = scores.masked_fill(~seen, -1e4).softmax(dim=-1)  # [B, H, L', window]
        mixed = torch.einsum("bhlw,bhdlw->bhdl", weights, value).flatten(1, 2)  # [B, D, L']
        return self.out(mixed) * mask.unsqueeze(1)


class TransformerBlock(nn.Module):
    """Pre-norm transformer block with local attention; a stride of 2 halves the sequence (max-pooled on the skip path)."""

    def __init__(self, dim: int, *, heads: int, reach: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.attention_norm = ChannelNorm(dim)
        self.attention = LocalAttention(dim, heads=heads, reach=reach, stride=stride)
        self.mlp_norm = ChannelNorm(dim)
        self.mlp = nn.Sequential(nn.Conv1d(dim, 4 * dim, 1), nn.GELU(), nn.Conv1d(4 * dim, dim, 1))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, D, L]`, `[B, L]` to the same at `ceil(L / stride)`."""
        skip = x
        if self.stride > 1:
            skip = F.max_pool1d(x, 3, self.stride, padding=1)
            mask = mask[:, :: self.stride]
        valid = mask.unsqueeze(1).to(x.dtype)
        x = (skip + self.attention(self.attention_norm(x), mask)) * valid
        return (x + self.mlp(self.mlp_norm(x))) * valid, mask
