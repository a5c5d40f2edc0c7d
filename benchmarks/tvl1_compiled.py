"""The TV-L1 iteration under torch.compile: an alternative that the benchmarks measure ours against.

On a CPU it needs a C++ compiler at run time.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from tadscale.flow.tvl1.solver import Tvl1Solver


class CompiledTvl1Solver(Tvl1Solver):
    """`Tvl1Solver`, each half of an iteration fused into one kernel by torch.compile; equal but for rounding."""

    @classmethod
    def chunk(cls, height: int, width: int, device: torch.device) -> int:
        """A call costs some 50 us of torch.compile's guards, and there are 12 planes, not 18: larger chunks on a CPU."""
        larger = 3 if device.type == "cpu" else 1
        return max(1, larger * super().chunk(height, width, device))

    def _prepare(self, like: Tensor) -> None:
        _, count, height, width = self.shape
        keep_x, keep_y = like.new_ones(2, count, height, width)  # 0 where a difference would leave the picture
        keep_x[..., -1] = 0
        keep_y[..., -1, :] = 0
        self.keep_x, self.keep_y = keep_x.view(-1), keep_y.view(-1)  # [count * height * width]

    def _iterate(self) -> None:
        primal, dual = _compiled_steps()
        data_term = (self.offset, self.slope, self.direction, self.threshold)
        primal(self.u, self.p_x, self.p_left, self.p_y, self.p_above, *data_term)
        dual(self.u, self.u_right, self.u_below, self.p_x, self.p_y, self.keep_x, self.keep_y, self.config.tau)


@cache
def _compiled_steps() -> tuple[Callable[..., None], Callable[..., None]]:
    # The number of pixels alone varies over levels and chunks: `dynamic` compiles each function once.
    return torch.compile(_primal, dynamic=True), torch.compile(_dual, dynamic=True)


def _primal(
    u: Tensor,
    p_x: Tensor,
    p_left: Tensor,
    p_y: Tensor,
    p_above: Tensor,
    offset: Tensor,
    slope: Tensor,
    direction: Tensor,
    threshold: float,
) -> None:
    step = (offset + slope[0] * u[0] + slope[1] * u[1]).clamp(-threshold, threshold)
    u.copy_(u - direction * step + (p_x - p_left + p_y - p_above))


def _dual(
    u: Tensor,
    u_right: Tensor,
    u_below: Tensor,
    p_x: Tensor,
    p_y: Tensor,
    keep_x: Tensor,
    keep_y: Tensor,
    tau: float,
) -> None:
    d_x, d_y = (u_right - u) * keep_x, (u_below - u) * keep_y
    norm = 1 + torch.sqrt(d_x * d_x + d_y * d_y)
    p_x.copy_((p_x + tau * d_x) / norm)
    p_y.copy_((p_y + tau * d_y) / norm)
