"""TV-L1's warps and inner iterations on a GPU, by the kernels of `kernels`."""

import torch
from torch import Tensor

from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.solver import CHUNK_PIXELS_GPU, FLAT_GRADIENT

STRIP = 8  # pixels of a column that a thread holds in one piece
PIXELS_PER_THREAD = 16  # two strips: with 10 variables a pixel they take 251 of a thread's 255 registers
SMALLEST_TILE = 16
CHUNK_PAIRS = 65_535  # CUDA's limit to the third axis of a grid
DATA_TILE = (8, 64)  # of `linearise`: height, width


class TritonTvl1Solver:
    """What `Tvl1Solver` and `warp` do for one level of the pyramid, in float32: the same but for rounding.

    Nothing waits for the host, and `refine` allocates nothing: a whole `Tvl1.flow` can be captured in a CUDA graph, once it
    has run before (which compiles the kernels).

    Args:
        count, height, width: pairs of frames, and their size.
        config: warps, iterations, tau, data_weight, theta.
        like: a float32 tensor on the device to work on. One on the CPU needs Triton's interpreter.
    """

    # Height and width. As much as the registers of a multiprocessor hold at once (64 K of 4 bytes).
    tile = (64, 64)
    # For k iterations a launch reads 9 planes, those of overlapping tiles in part twice, and writes 6: at 224 px 17, 14, 10
    # bytes a pixel and iteration for k = 4, 5, 8. With a border of 4 or 5 four tiles span the picture, and the arithmetic is
    # 1.3 times that of its pixels; with 8 five do, and it is 2 times.
    iterations_per_launch = 5
    dual_dtype = torch.float32  # of the dual variable in memory, between launches

    def __init__(self, count: int, height: int, width: int, config: Tvl1Config, like: Tensor) -> None:
        self.config = config
        self.height, self.width, self.count = height, width, count
        self.tiles = _tile_side(height, self.tile[0]), _tile_side(width, self.tile[1])
        shape = (count, height, width)
        # A launch reads one of the two and writes the other: its programs read their neighbours' pixels.
        self.flows = list(like.new_empty(2, 2, *shape))
        self.duals = list(like.new_empty(2, 4, *shape, dtype=self.dual_dtype))
        self.data = like.new_empty(3, *shape)

    @classmethod
    def chunk(cls, height: int, width: int, device: torch.device) -> int:
        """How many pairs to make a solver for."""
        return min(max(1, CHUNK_PIXELS_GPU // (height * width)), CHUNK_PAIRS)

    def refine(self, first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
        """Run all warps of a level from a flow.

        Args:
            first, second: frames `[N, H, W]`.
            flow: `[2, N, H, W]` in pixels; each of its two planes is contiguous.

        Returns:
            The refined flow `[2, N, H, W]`, in a buffer that the next call overwrites.
        """
        first, second = first.contiguous(), second.contiguous()
        self.duals[0].zero_()
        with torch.cuda.device_of(first):  # where the kernels go; of no effect for tensors on the CPU
            for _ in range(self.config.warps):
                self._linearise(first, second, flow)
                for iterations in self.launches():
                    flow = self._iterate(flow, iterations)
        return flow

    def launches(self) -> list[int]:
        """Iterations of each launch. Where a tile holds the picture there is no border, and one launch does all."""
        if self.height <= self.tiles[0] and self.width <= self.tiles[1]:
            return [self.config.iterations]
        whole, rest = divmod(self.config.iterations, self.iterations_per_launch)
        return [self.iterations_per_launch] * whole + [rest] * (rest > 0)

    def grid(self, iterations: int) -> tuple[int, int, int]:
        """Tiles in x and y, and pairs, of a launch. A tile overlaps the next by twice the iterations."""
        tile_y, tile_x = self.tiles
        return _tiles(self.width, tile_x, iterations), _tiles(self.height, tile_y, iterations), self.count

    def _linearise(self, first: Tensor, second: Tensor, flow: Tensor) -> None:
        from tadscale.flow.tvl1.kernels import linearise  # here, because it imports Triton

        grid = (-(-self.width // DATA_TILE[1]), -(-self.height // DATA_TILE[0]), self.count)
        planes = (flow, flow.stride(0), self.data, self.data.stride(0))
        linearise[grid](first, second, *planes, self.height, self.width, *DATA_TILE, enable_fp_fusion=True)

    def _iterate(self, flow: Tensor, iterations: int) -> Tensor:
        from tadscale.flow.tvl1.kernels import iterate

        config, (tile_y, tile_x), out = self.config, self.tiles, self.flows[0]
        iterate[self.grid(iterations)](
            *(flow, flow.stride(0), self.duals[0], self.data, out, out.stride(0), self.duals[1]),
            *(self.data.stride(0), self.height, self.width),
            *(config.theta, config.tau / config.theta, config.data_weight * config.theta),
            *(tile_y, tile_x, STRIP, iterations, FLAT_GRADIENT),
            num_warps=max(1, tile_y * tile_x // (32 * PIXELS_PER_THREAD)),
            enable_fp_fusion=True,
        )
        self.flows.reverse()
        self.duals.reverse()
        return out


def _tile_side(side: int, largest: int) -> int:
    """The smallest power of two that holds a side of the picture, within bounds."""
    return min(largest, max(SMALLEST_TILE, 1 << (side - 1).bit_length()))


def _tiles(side: int, tile: int, border: int) -> int:
    """Tiles along a side, each with a border on both ends but for the picture's own edges."""
    return 1 if side <= tile else -(-(side - 2 * border) // (tile - 2 * border))
