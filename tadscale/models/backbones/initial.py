"""How a network begins whose norms are frozen, and so restore no variances."""

from collections.abc import Sequence

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def keep_variances(network: nn.Module, branch_ends: Sequence[nn.Module] = ()) -> None:
    """Begin with convolutions that pass variances unchanged (He et al., ICCV 2015), and with quiet residual branches.

    Each of n branches that are added one after the other begins with an n-th of the variance of what it is added to; at full
    variance 16 blocks would multiply features by hundreds (compare Zhang et al., Fixup Initialization, ICLR 2019).

    Args:
        network: all its convolutions are drawn anew.
        branch_ends: the last convolution of every residual branch.
    """
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    with torch.no_grad():
        for end in branch_ends:
            end.get_parameter("weight").mul_(len(branch_ends) ** -0.5)
