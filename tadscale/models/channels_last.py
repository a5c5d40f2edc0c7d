"""Layers over `[B, L, D]`: a step's channels lie side by side in memory.

Layer normalisation and projections work step by step. Between convolutions over `[B, D, L]` each of them costs a
transpose, and a convolution that gets the transposed view copies it back. Parameters are named and shaped as those of
`nn.Conv1d`, so that weights trained in either layout are the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PICTURES = 16
"""From so many pictures on, torch computes convolutions of width 1 by oneDNN on one thread, too."""
MANY_PRODUCTS = 2**23
"""From so many multiplications on, a layout for oneDNN pays: 1152 steps of 64 to 128 channels."""


class TimeConv(nn.Conv1d):
    """`nn.Conv1d` over the steps of `[B, L, D_in]`, to `[B, L', D_out]`.

    A depth-wise one is computed as a convolution over pictures of one row, for which torch has a memory format with the
    channels last: 1152 steps of 512 channels take 4.9 ms of a CPU, forward and backward, over the transposed view 23 ms.
    A full one is only where it is large and nothing is learned (2 x 2304 steps from 2048 to 512 channels: 144 ms in place of
    226): the gradient of the weights takes 200 ms in that format where it takes 30 over the view.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`[B, L, D_in]` to `[B, L', D_out]`."""
        if self.groups == 1 and (torch.is_grad_enabled() or not _is_large(x, self.weight)):
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
        row = x.transpose(1, 2).unsqueeze(2)  # [B, D_in, 1, L], a view with the channels last
        stride, padding = (1, self.stride[0]), (0, int(self.padding[0]))
        out = F.conv2d(row, self.weight.unsqueeze(2), self.bias, stride, padding, groups=self.groups)
        return out.squeeze(2).transpose(1, 2)


class StepLinear(nn.Conv1d):
    """A convolution of width 1, as what it is: one linear map of each step."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, L, D_in]` to `[B, L, D_out]`."""
        return linear(x, self.weight.squeeze(2), self.bias)


class Linear(nn.Linear):
    """`nn.Linear`, by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D_in]` to `[..., D_out]`."""
        return linear(x, self.weight, self.bias)


class StepNorm(nn.Module):
    """Layer normalisation over the channels of each step of `[B, L, D]`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`."""
        normed: Tensor = self.norm(x)
        return normed


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` of `[..., D_in]`; a large one in float32 on a CPU as a convolution of width 1.

    torch has the matrix products of a CPU done by MKL, and those of convolutions by oneDNN. On processors that are not
    Intel's MKL leaves AVX-512 aside: 4608 steps of 512 channels take 26 ms of an AMD EPYC's core by MKL, 10 ms by oneDNN,
    with both gradients 73 ms and 42 ms.
    """
    if not _is_large(x, weight) or not _multiplies_by_mkl(x) or x.numel() // x.shape[-1] % PICTURES:
        return F.linear(x, weight, bias)
    pictures = x.reshape(PICTURES, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # [16, D_in, 1, steps / 16], channels last
    out = F.conv2d(pictures, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def _is_large(x: Tensor, weight: Tensor) -> bool:
    """Whether a CPU has much to multiply in a map of the steps of `[..., D_in]`. An exported graph is of any size."""
    if torch.compiler.is_exporting() or x.device.type != "cpu":
        return False
    return x.numel() // x.shape[-1] * weight.numel() >= MANY_PRODUCTS


def _multiplies_by_mkl(x: Tensor) -> bool:
    return x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") and torch.backends.mkl.is_available()


def max_pool(x: Tensor, width: int, stride: int) -> Tensor:
    """Largest value of `width` (odd) steps about every `stride`-th step: `[B, L, D]` to `[B, ceil(L / stride), D]`."""
    row = x.transpose(1, 2).unsqueeze(2)  # [B, D, 1, L]
    return F.max_pool2d(row, (1, width), (1, stride), (0, width // 2)).squeeze(2).transpose(1, 2)
