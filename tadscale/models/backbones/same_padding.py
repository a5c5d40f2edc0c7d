"""Padding as TensorFlow's SAME: what networks that were trained there expect at the borders."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """What is added before and after an axis so that it gives `ceil(size / stride)` outputs; the odd one after."""
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Zeros around the last axes of `x`, as many axes as `kernel` and `stride` have sizes."""
    sizes = x.shape[-len(kernel) :]
    sides = [same_padding(*axis) for axis in zip(sizes, kernel, stride, strict=True)]
    return F.pad(x, [side for axis in reversed(sides) for side in axis])
