"""Self-attention among action queries, which are told how far their segments overlap."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.tiou import temporal_iou


class QueryAttention(nn.Module):
    """Multi-head self-attention with a bias of each head's own weight times the tIoU of the two segments.

    The bias is ours (Hou et al., Relation DETR, ECCV 2024, have one for boxes): two queries on one action must find each
    other before one of them can stand back, and from sinusoids of their places that takes long to learn.
    """

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key = nn.Linear(dim, 2 * dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.overlap = nn.Parameter(torch.linspace(0.0, 6.0, heads))

    def forward(self, x: Tensor, position: Tensor, segments: Tensor) -> Tensor:
        """Queries and what tells them apart, both `[B, Q, D]`, and their segments `[B, Q, 2]` in steps, to `[B, Q, D]`."""
        query, key = self.query_key(x + position).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        value = self.value(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, H, Q, d]
        tiou = temporal_iou(segments.unsqueeze(2), segments.unsqueeze(1)).unsqueeze(1)  # [B, 1, Q, Q]
        bias = (self.overlap[:, None, None] * tiou).to(query.dtype)  # [B, H, Q, Q]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).flatten(2))
