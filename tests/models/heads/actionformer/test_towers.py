"""Towers over levels that are joined, against the same layers over each level alone."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tadscale.models.heads.actionformer.towers import JoinedLevels, Tower


def alone(tower: Tower, x: Tensor) -> Tensor:
    """`[B, L, D]` by torch's convolutions, beyond whose ends is nothing in every layer."""
    for conv, norm in ((tower[0], tower[1]), (tower[3], tower[4])):
        x = F.conv1d(x.transpose(1, 2), conv.weight, padding=1).transpose(1, 2)
        x = F.layer_norm(x, x.shape[2:], norm.norm.weight, norm.norm.bias).relu()
    return F.conv1d(x.transpose(1, 2), tower[6].weight, tower[6].bias, padding=1).transpose(1, 2)


def test_no_level_reads_its_neighbours():
    torch.manual_seed(0)
    tower = Tower(16, 3).double()
    for name, weight in tower.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight)  # an offset that fills the gaps
    levels = [torch.randn(2, steps, 16).double() for steps in (9, 5, 1)]
    expected = torch.cat([alone(tower, level) for level in levels], dim=1)
    masks = [torch.ones(level.shape[:2], dtype=torch.bool) for level in levels]
    torch.testing.assert_close(tower(JoinedLevels.of(levels, masks)), expected)


def test_steps_that_do_not_exist_say_nothing():
    torch.manual_seed(0)
    tower = Tower(16, 3).double()
    torch.nn.init.normal_(tower[1].norm.bias)  # an offset that fills them
    level, mask = torch.randn(1, 9, 16).double(), torch.arange(9).unsqueeze(0) < 6
    found = tower(JoinedLevels.of([level], [mask]))[:, :6]
    torch.testing.assert_close(found, alone(tower, level[:, :6]))
