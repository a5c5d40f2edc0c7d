"""Weights stored in fewer bits than they are computed with: what an export may trade for its size.

Only the weights of convolutions and linear layers, which are nearly all; biases and norms stay float32, and so does all
arithmetic. So every runtime that has the layers has the network, and its answers differ by the rounding of weights alone.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

Precision = Literal["float32", "bfloat16", "int8"]


def store_weights(network: nn.Module, precision: Precision) -> nn.Module:
    """Round the weights of a network in place, and store them rounded; returned for convenience.

    - `bfloat16`: 8 bits of mantissa, half of the bytes;
    - `int8`: a quarter of the bytes. Symmetric, with a scale for every output channel, which is the usual choice for weights
      (Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, sec. 3.1).
    """
    if precision == "float32":
        return network
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | _ConvNd):
            module.weight.requires_grad_(False)
            stored = _Bfloat16() if precision == "bfloat16" else _Int8()
            parametrize.register_parametrization(module, "weight", stored, unsafe=True)  # unsafe: it changes the type
    return network


class _Bfloat16(nn.Module):
    def forward(self, stored: Tensor) -> Tensor:
        return stored.float()

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        return (weight.bfloat16(),)  # in a tuple, or torch would insist on the weight's own type


class _Int8(nn.Module):
    def forward(self, stored: Tensor, scale: Tensor) -> Tensor:
        return stored.float() * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
        scale = largest.clamp(min=torch.finfo(weight.dtype).tiny) / 127  # [O, 1, ...]
        return (weight / scale).round().to(torch.int8), scale
