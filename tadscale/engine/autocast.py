"""A network as training calls it where its arithmetic is halved: bfloat16 inside, float32 outside."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


def in_float32(outputs: Any) -> Any:
    """A network's outputs, of whatever structure, with their floats in float32: losses and segments are computed of those,
    and the 8 bits of bfloat16 are half a frame at frame 128."""
    return tree_map_only(Tensor, lambda value: value.float() if value.is_floating_point() else value, outputs)


class UnderAutocast(nn.Module):
    """A network under autocast, without the engine that does the same in training: to measure, and to compare.

    Args:
        network: whose submodules keep their names.
        dtype: of its arithmetic; float32 leaves it as it is.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self._dtype = dtype

    def forward(self, *inputs: Any) -> Any:
        """What the network returns, in float32."""
        device = next(self.network.parameters()).device.type
        with torch.autocast(device, self._dtype, enabled=self._dtype != torch.float32):
            outputs = self.network(*inputs)
        return in_float32(outputs)

    def get_submodule(self, target: str) -> nn.Module:
        """The network's own, by the network's names."""
        return self.network.get_submodule(target)
