"""The graph of time steps: edges to the nearest steps in feature space, and the block that convolves over it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadscale.models.temporal import ChannelNorm


def nearest_steps(x: Tensor, mask: Tensor, count: int) -> Tensor:
    """Semantic edges: the steps whose features are nearest to each step's own (Xu et al., CVPR 2020,
    sec. "GCNeXt for Context Feature Encoding").

    A step is not its own neighbour (ours; in the authors' code it is the first of its own): the edge would say what the
    step says already. It stands in where a window has too few valid steps.

    Args:
        x: `[B, D, L]`.
        mask: `[B, L]` valid steps; the others are nobody's neighbours.
        count: neighbours k of a step.

    Returns:
        `[B, L, min(k, L)]` indices, the nearest first. The choice has no gradient.
    """
    steps = x.shape[2]
    nodes = x.detach().transpose(1, 2)  # [B, L, D]
    itself = torch.eye(steps, dtype=torch.bool, device=x.device)
    distance = torch.cdist(nodes, nodes).masked_fill(itself | ~mask.unsqueeze(1), torch.inf)  # [B, L, L]
    nearest = distance.topk(min(count, steps), dim=2, largest=False)
    own = torch.arange(steps, device=x.device).unsqueeze(1)  # [L, 1]
    return torch.where(nearest.values.isinf(), own, nearest.indices)


def of_steps(x: Tensor, index: Tensor) -> Tensor:
    """The features of every step's neighbours: `[B, D, L]` and `[B, L, k]` to `[B, D, L, k]`."""
    flat = index.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)  # [B, D, L * k]
    return x.gather(2, flat).unflatten(2, index.shape[1:])


class GCNeXt(nn.Module):
    """Graph convolution over temporal and semantic edges, split-transform-merge (Xu et al., CVPR 2020, sec. "GCNeXt for
    Context Feature Encoding").

    Temporal edges join neighbours in time: a convolution of width 3. Semantic edges join a step to those nearest in
    feature space, chosen anew in every block: of each pair of features the same paths make a message, and the maximum
    over neighbours is kept. Both are added to the input. Layer normalisation before the last ReLU is ours: it trains at
    rates of 1e-3 where the published one is 4e-5.
    """

    def __init__(self, dim: int, *, paths: int, path_width: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        width = paths * path_width
        self.temporal_in = nn.Conv1d(dim, width, 1)
        self.temporal = nn.Conv1d(width, width, 3, padding=1, groups=paths)
        self.temporal_out = nn.Conv1d(width, dim, 1)
        # A linear layer on a pair of features is the sum of one on each: both run over L steps and not over L * k edges.
        self.semantic_own = nn.Conv1d(dim, width, 1)
        self.semantic_other = nn.Conv1d(dim, width, 1, bias=False)
        self.semantic = nn.Conv2d(width, width, 1, groups=paths)
        self.semantic_out = nn.Conv2d(width, dim, 1)
        self.norm = ChannelNorm(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, D, L]`, zero where the mask `[B, L]` is, to the same."""
        valid = mask.unsqueeze(1).to(x.dtype)  # [B, 1, L]
        inner = F.relu(self.temporal_in(x)) * valid  # [B, W, L]
        temporal = self.temporal_out(F.relu(self.temporal(inner)))  # [B, D, L]
        index = nearest_steps(x, mask, self.neighbours)  # [B, L, k]
        pairs = self.semantic_own(x).unsqueeze(3) + of_steps(self.semantic_other(x), index)  # [B, W, L, k]
        messages = self.semantic_out(F.relu(self.semantic(F.relu(pairs))))  # [B, D, L, k]
        return F.relu(self.norm(x + temporal + messages.amax(dim=3))) * valid
