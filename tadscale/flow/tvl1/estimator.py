"""TV-L1 optical flow (Zach, Pock, Bischof, DAGM 2007), batched over pairs of frames, on any torch device."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from shutil import which
from typing import Protocol

import torch
from torch import Tensor

from tadscale.flow.estimator import check_pairs
from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.numba_solver import NumbaTvl1Solver
from tadscale.flow.tvl1.solver import Tvl1Solver
from tadscale.flow.tvl1.triton_solver import TritonTvl1Solver
from tadscale.flow.warp import MIN_LEVEL_SIDE_PX, pyramid, resize_flow


class Solver(Protocol):
    """Refines the flow of some pairs at one level of the pyramid: all implementations agree but for rounding."""

    def __init__(self, count: int, height: int, width: int, config: Tvl1Config, like: Tensor) -> None: ...

    @classmethod
    def chunk(cls, height: int, width: int, device: torch.device) -> int:
        """How many pairs to make a solver for, for speed."""
        ...

    def refine(self, first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
        """Frames `[N, H, W]` and flow `[2, N, H, W]` in pixels to the refined flow, which the next call may overwrite."""
        ...


class Tvl1:
    """TV-L1 optical flow: total variation of the flow + lambda * |brightness difference|, coarse to fine.

    The algorithm is that of Sanchez Perez, Meinhardt-Llopis and Facciolo, IPOL 2013, without a stopping test. Our choices:
    bilinear warping, for speed; pictures as they are, neither smoothed nor stretched to the whole range of grey before, so
    that lambda weighs less in pictures of little contrast; a data term whose gradient is the mean of both frames' (Wedel et
    al., *An Improved Algorithm for TV-L1 Optical Flow*, 2009, blend them too; it widens the range of displacements that
    converge). No median filter.

    Args:
        config: see `Tvl1Config`.
        solver_type: what runs a level's iterations, in place of `fastest_solver`'s choice: the same but for rounding.
    """

    def __init__(self, config: Tvl1Config | None = None, solver_type: type[Solver] | None = None) -> None:
        self.config = config or Tvl1Config()
        self.solver_type = solver_type

    @torch.no_grad()
    def flow(self, frames_a: Tensor, frames_b: Tensor) -> Tensor:
        """See `FlowEstimator.flow`. Computes on the frames' device, in float64 for float64 frames, else in float32."""
        check_pairs(frames_a, frames_b, MIN_LEVEL_SIDE_PX)
        dtype = torch.float64 if frames_a.dtype == torch.float64 else torch.float32
        if len(frames_a) == 0:
            return frames_a.new_zeros(0, 2, *frames_a.shape[1:], dtype=dtype)
        levels_a = pyramid(frames_a.to(dtype), self.config.levels)
        levels_b = pyramid(frames_b.to(dtype), self.config.levels)
        flow = levels_a[-1].new_zeros(2, *levels_a[-1].shape)  # [2, N, h, w] of the coarsest level
        for first, second in zip(reversed(levels_a), reversed(levels_b), strict=True):
            flow = self._refine(first, second, resize_flow(flow, *first.shape[-2:]))
        return flow.transpose(0, 1).contiguous()  # [N, 2, H, W]

    def fingerprint(self) -> str:
        """See `Tvl1Config.fingerprint`."""
        return self.config.fingerprint()

    def _refine(self, first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
        """One level of the pyramid: frames `[N, H, W]`, flow `[2, N, H, W]`, refined in place."""
        solver_type = self.solver_type or fastest_solver(first)
        # Torch's operations are parallel by themselves; the loops of Numba are not, and let go of Python's lock.
        threads = min(torch.get_num_threads(), len(first)) if solver_type is NumbaTvl1Solver else 1
        if threads == 1:
            self._refine_chunks(solver_type, first, second, flow)
            return flow
        with ThreadPoolExecutor(threads) as pool:
            shares = zip(*(frames.tensor_split(threads, -3) for frames in (first, second, flow)), strict=True)
            for done in [pool.submit(self._refine_chunks, solver_type, *share) for share in shares]:
                done.result()
        return flow

    @torch.inference_mode()  # its threads do not inherit their caller's mode
    def _refine_chunks(self, solver_type: type[Solver], first: Tensor, second: Tensor, flow: Tensor) -> None:
        """Chunk by chunk, so that what a solver works in stays in the cache."""
        count, height, width = first.shape
        chunk = min(count, solver_type.chunk(height, width, first.device))
        solver = solver_type(chunk, height, width, self.config, first)
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            if count - start < chunk:
                solver = solver_type(count - start, height, width, self.config, first)
            flow[:, part].copy_(solver.refine(first[part], second[part], flow[:, part]))


def fastest_solver(frames: Tensor) -> type[Solver]:
    """What runs a level on the frames' device: in float32 our own kernels on a GPU where Triton can work, and loops that
    Numba compiles on a CPU; torch's operations everywhere else."""
    if frames.dtype == torch.float32:
        if frames.device.type == "cuda" and triton_works():
            return TritonTvl1Solver
        if frames.device.type == "cpu" and find_spec("numba") is not None:
            return NumbaTvl1Solver
    return Tvl1Solver


@cache
def triton_works() -> bool:
    """Whether Triton is installed, and the C compiler with which it builds the launchers of its kernels."""
    return find_spec("triton") is not None and bool(os.environ.get("CC") or which("gcc") or which("clang"))
