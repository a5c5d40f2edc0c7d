"""Semantic edges and graph convolution against slow loops over steps and edges."""

import pytest
import torch
from torch import Tensor

from tadscale.models.heads.gtad.graph import GCNeXt, nearest_steps


def features(steps: int = 9) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.ones(2, steps, dtype=torch.bool)
    mask[1, 6:] = False
    return torch.randn(2, 4, steps).double() * mask.unsqueeze(1), mask


def slow_nearest(x: Tensor, mask: Tensor, count: int) -> list[list[list[int]]]:
    found = []
    for nodes, valid in zip(x.transpose(1, 2), mask.tolist(), strict=True):
        rows = []
        for step, own in enumerate(nodes):
            others = [other for other in range(len(nodes)) if other != step and valid[other]]
            others.sort(key=lambda other, own=own, nodes=nodes: float((nodes[other] - own).square().sum()))
            rows.append((others + [step] * count)[:count])
        found.append(rows)
    return found


@pytest.mark.parametrize("count", [1, 3, 7])
def test_neighbours_equal_a_slow_loop(count):
    """With 7, the second window's six valid steps have too few."""
    x, mask = features()
    assert nearest_steps(x, mask, count).tolist() == slow_nearest(x, mask, count)


def test_a_window_of_one_step_is_its_own_neighbour():
    assert nearest_steps(torch.randn(1, 4, 1), torch.ones(1, 1, dtype=torch.bool), 3).tolist() == [[[0]]]


def slow_messages(block: GCNeXt, own: Tensor, others: list[Tensor]) -> Tensor:
    """The semantic branch of one step: linear on the pair, path by path, then the maximum over neighbours."""
    weight = torch.cat([block.semantic_own.weight, block.semantic_other.weight], dim=1)[..., 0]  # [W, 2 D]
    messages = []
    for other in others:
        hidden = (weight @ torch.cat([own, other]) + block.semantic_own.bias).clamp(min=0)
        width = block.semantic.weight.shape[1]  # of a path
        merged = []
        for path, kernel in enumerate(block.semantic.weight[..., 0, 0].split(width)):
            merged.append(kernel @ hidden[path * width : (path + 1) * width])
        hidden = (torch.cat(merged) + block.semantic.bias).clamp(min=0)
        messages.append(block.semantic_out.weight[..., 0, 0] @ hidden + block.semantic_out.bias)
    return torch.stack(messages).amax(dim=0)


def slow_temporal(block: GCNeXt, before: Tensor, own: Tensor, after: Tensor) -> Tensor:
    """The temporal branch of one step; a neighbour that does not exist is given as None."""
    width = block.temporal.weight.shape[1]
    out = block.temporal.bias.clone()
    for tap, step in enumerate((before, own, after)):
        if step is None:
            continue
        hidden = (block.temporal_in.weight[..., 0] @ step + block.temporal_in.bias).clamp(min=0)
        for path in range(block.temporal.groups):
            mine = slice(path * width, (path + 1) * width)
            out[mine] += block.temporal.weight[mine, :, tap] @ hidden[mine]
    return block.temporal_out.weight[..., 0] @ out.clamp(min=0) + block.temporal_out.bias


def test_a_block_equals_a_slow_loop_over_steps_and_edges():
    x, mask = features()
    block = GCNeXt(4, paths=2, path_width=3, neighbours=3).double()
    expected = torch.zeros_like(x)
    for window, neighbours in enumerate(slow_nearest(x, mask, 3)):
        steps = [x[window, :, step] if valid else None for step, valid in enumerate(mask[window])]
        around = [None, *steps, None]
        for step, own in enumerate(steps):
            if own is None:
                continue
            out = own + slow_temporal(block, around[step], own, around[step + 2])
            out = out + slow_messages(block, own, [x[window, :, other] for other in neighbours[step]])
            expected[window, :, step] = block.norm.norm(out).clamp(min=0)
    torch.testing.assert_close(block(x, mask), expected)
