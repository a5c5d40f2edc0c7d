"""TV-L1's warps and inner iterations on a CPU, by the loops of `loops`."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.solver import FLAT_GRADIENT

CACHE_LINE = 16  # floats
MARGIN = CACHE_LINE  # around a row of pictures: of zeros, and so that rows begin with a cache line
# Pixels of a row of all pairs side by side. A row costs some 150 ns beside its pixels: an iteration takes 1.8 ns a pixel at
# 224, 1.4 at 448, 1.2 at 900, and 1.0 to 1.1 from there to 3600; up to half as much again where memory lies unluckily.
ROW_PIXELS = 1536
FLOW, DUAL, DATA = 2, 4, 4  # planes: u, v; p of u in x and y, p of v in x and y; constant, g_x, g_y, 1 / |g|^2


class NumbaTvl1Solver:
    """What `Tvl1Solver` does for one level of the pyramid, on a CPU in float32: the same but for rounding.

    Args:
        count, height, width: pairs of frames, and their size.
        config: warps, iterations, tau, data_weight, theta.
        like: a float32 tensor on the CPU.
    """

    def __init__(self, count: int, height: int, width: int, config: Tvl1Config, like: Tensor) -> None:
        assert like.device.type == "cpu" and like.dtype == torch.float32
        self.config = config
        row = -(-count * width // CACHE_LINE) * CACHE_LINE + 2 * MARGIN
        pixels = slice(MARGIN, MARGIN + count * width)
        self.planes = _aligned(FLOW + DUAL + DATA, height + 2, row)
        inside = self.planes[:, 1:-1, pixels]  # [planes, H, N * W]
        self.pictures = np.moveaxis(inside.reshape(-1, height, count, width, copy=False), 2, 1)  # [planes, N, H, W]
        self.step_x = _aligned(row)  # the dual step; zero at the pairs' right edges, and in the margin
        self.step_x[pixels].reshape(count, width)[:, :-1] = config.tau / config.theta
        self.packed = _aligned(count, height, width, 4)

    @classmethod
    def chunk(cls, height: int, width: int, device: torch.device) -> int:
        """How many pairs to make a solver for."""
        return max(1, ROW_PIXELS // width)

    def refine(self, first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
        """Run all warps of a level from a flow.

        Args:
            first, second: frames `[N, H, W]`.
            flow: `[2, N, H, W]` in pixels.

        Returns:
            The refined flow `[2, N, H, W]`, in memory that the next call overwrites.
        """
        from tadscale.flow.tvl1.loops import iterate, linearise, pack  # here, because it imports Numba

        config = self.config
        numbers = (config.theta, config.tau / config.theta, config.data_weight * config.theta)
        scalars = [np.float32(number) for number in numbers]
        ones, twos = first.detach().numpy(), second.detach().numpy()
        self.pictures[:FLOW] = flow.detach().numpy()
        self.planes[FLOW : FLOW + DUAL] = 0
        for frame, packed in zip(twos, self.packed, strict=True):
            pack(frame, packed)
        for _ in range(config.warps):
            for pair, (frame, packed) in enumerate(zip(ones, self.packed, strict=True)):
                state = self.pictures[:FLOW, pair], self.pictures[FLOW + DUAL :, pair]  # [2, H, W], [4, H, W]
                linearise(frame, packed, *state[0], *state[1], np.float32(FLAT_GRADIENT))
            iterate(*self.planes, self.step_x, MARGIN, *scalars, config.iterations)
        return torch.from_numpy(self.pictures[:FLOW])


def _aligned(*shape: int) -> NDArray[np.float32]:
    """Zeros that begin with a cache line."""
    size = int(np.prod(shape))
    memory = np.zeros(size + CACHE_LINE, np.float32)
    skip = -memory.ctypes.data // memory.itemsize % CACHE_LINE
    return memory[skip : skip + size].reshape(shape)
