"""The inner iterations of TV-L1 flow, on preallocated buffers: nearly all of the method's time is spent here.

With the data term linearised around a flow u0, Zach, Pock and Bischof (*A Duality Based Approach for Realtime TV-L1 Optical
Flow*, DAGM 2007) alternate a point-wise thresholding of the data term and a step of Chambolle's dual projection for the
total variation. In the notation of Sanchez Perez, Meinhardt-Llopis and Facciolo (*TV-L1 Optical Flow Estimation*, IPOL
2013), with g the gradient, rho the linearised residual, and the three cases of the thresholding written as one clamp:

    v = u - clamp(rho(u) / |g|^2, -lambda theta, lambda theta) g,    rho(u) = residual + g . (u - u0)
    u = v + theta div p
    p = (p + tau / theta grad u) / (1 + tau / theta |grad u|)

Two things make it fast without a kernel of our own. Units: with U = (tau / theta) u and P = tau p all constants but one
vanish from the last two lines: U = V + div P, P = (P + tau grad U) / (1 + |grad U|). Layout: both channels of all pairs lie
in one flat array of rows, so that a neighbour is the same array, read one (x) or one row (y) further on, and every operation
runs over contiguous memory. Differences that such a shift takes over an edge, from the next row or picture, are set to zero:
the method's own boundary condition, which keeps the dual variable at zero there, so that div p needs no care at edges.
"""

import torch
from torch import Tensor

from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.warp import spatial_gradient, warp

# Pixels to make a solver for on a CPU, so that its buffers (18 planes of 4 bytes) stay in the cache. Of 50, 100, 200, 400,
# 800 thousand, with the cache shared by other processes: 5.0, 5.4, 6.3, 7.4, 9.0 ms for a pair of 112 px.
CHUNK_PIXELS_CPU = 64_000
CHUNK_PIXELS_GPU = 16_000_000  # no cache to stay in: 320 pairs of 224 px, in 34 planes of 4 bytes, 2.2 GB
FLAT_GRADIENT = 1e-6  # added to |g|^2 (grey levels^2 / px^2), so that a flat patch divides by something


class Tvl1Solver:
    """Solves linearised TV-L1 problems of one shape. The dual variable lives on between calls, as warps want it.

    Args:
        count, height, width: pairs of frames, and their size.
        config: tau, data_weight, theta, iterations, and warps for `refine`.
        like: a tensor of the dtype and on the device to work in.
    """

    def __init__(self, count: int, height: int, width: int, config: Tvl1Config, like: Tensor) -> None:
        self.config = config
        self.scale = config.tau / config.theta
        self.threshold = config.data_weight * config.theta
        self.shape = (2, count, height, width)
        pixels = count * height * width
        # A row of zeros after u and before p keeps the shifted views inside the buffers.
        u = like.new_zeros(2 * pixels + width)
        p_x, p_y = like.new_zeros(2, width + 2 * pixels)
        self.u, self.u_right, self.u_below = (u[i : i + 2 * pixels].view(2, pixels) for i in (0, 1, width))
        self.p_x, self.p_left = (p_x[i : i + 2 * pixels].view(2, pixels) for i in (width, width - 1))
        self.p_y, self.p_above = (p_y[i : i + 2 * pixels].view(2, pixels) for i in (width, 0))
        self.offset = like.new_empty(pixels)
        self.slope, self.direction = like.new_empty(2, 2, pixels)
        self._prepare(like)

    def _prepare(self, like: Tensor) -> None:
        """Allocate what `_iterate` works in."""
        self.step = torch.empty_like(self.offset)
        self.d_x, self.d_y, self.norm, self.inverse = like.new_empty(4, *self.u.shape)
        self.edge_x = self.d_x.view(self.shape)[..., -1]  # [2, count, height]
        self.edge_y = self.d_y.view(self.shape)[..., -1, :]  # [2, count, width]
        self.one, self.tiny = like.new_ones(1), like.new_full((1,), torch.finfo(like.dtype).tiny)

    @classmethod
    def chunk(cls, height: int, width: int, device: torch.device) -> int:
        """How many pairs to make a solver for."""
        return max(1, (CHUNK_PIXELS_CPU if device.type == "cpu" else CHUNK_PIXELS_GPU) // (height * width))

    def refine(self, first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
        """Run all warps of a level of the pyramid: frames `[N, H, W]`, flow `[2, N, H, W]` to the refined flow."""
        own = spatial_gradient(first)  # [2, N, H, W]
        source = torch.cat((second[None], spatial_gradient(second))).transpose(0, 1)  # [N, 3, H, W]
        self.reset()
        for _ in range(self.config.warps):
            warped, inside = warp(source, flow)  # [N, 3, H, W], [N, H, W]
            residual = (warped[:, 0] - first).mul_(inside)  # [N, H, W]
            gradient = (own + warped[:, 1:].transpose(0, 1)).mul_(inside).mul_(0.5)  # [2, N, H, W]
            flow = self.solve(flow, residual, gradient)
        return flow

    def reset(self) -> None:
        """Forget the dual variable: the next call solves an unrelated problem."""
        self.p_x.zero_()
        self.p_y.zero_()

    def solve(self, flow: Tensor, residual: Tensor, gradient: Tensor) -> Tensor:
        """Run `config.iterations` iterations from a flow, with the data term linearised around it.

        Args:
            flow: `[2, N, H, W]` in pixels.
            residual: `[N, H, W]` second frame, warped by the flow, - first frame. Zero takes the data term away.
            gradient: `[2, N, H, W]` of the pictures, grey levels per pixel.

        Returns:
            The refined flow `[2, N, H, W]`.
        """
        flow, gradient, residual = flow.reshape(2, -1), gradient.reshape(2, -1), residual.reshape(-1)  # [2, N * H * W]
        squared = (gradient * gradient).sum(0).add_(FLAT_GRADIENT)  # [N * H * W]
        constant = residual - (gradient * flow).sum(0)  # rho(u) = constant + gradient . u
        torch.div(constant, squared, out=self.offset)
        torch.mul(gradient, self.scale, out=self.direction)
        torch.div(gradient, squared * self.scale, out=self.slope)
        torch.mul(flow, self.scale, out=self.u)
        for _ in range(self.config.iterations):
            self._iterate()
        return (self.u / self.scale).view(self.shape)

    def _iterate(self) -> None:
        """One iteration, in 18 in-place passes over memory (3.8 ns a pixel, one core of a 2024 server CPU)."""
        torch.addcmul(self.offset, self.slope[0], self.u[0], out=self.step)
        self.step.addcmul_(self.slope[1], self.u[1]).clamp_(-self.threshold, self.threshold)
        self.u.addcmul_(self.direction, self.step, value=-1)
        self.u.add_(self.p_x).sub_(self.p_left).add_(self.p_y).sub_(self.p_above)
        torch.sub(self.u_right, self.u, out=self.d_x)
        torch.sub(self.u_below, self.u, out=self.d_y)
        self.edge_x.zero_()
        self.edge_y.zero_()
        # |d| as d^2 * rsqrt(d^2): an operation more, yet the iteration takes 8 % less (rsqrt in 6.5 us, sqrt in 10.4).
        torch.addcmul(self.tiny, self.d_x, self.d_x, out=self.norm).addcmul_(self.d_y, self.d_y)
        torch.rsqrt(self.norm, out=self.inverse)
        torch.addcmul(self.one, self.norm, self.inverse, out=self.norm)  # 1 + |grad U|
        self.p_x.add_(self.d_x, alpha=self.config.tau).div_(self.norm)
        self.p_y.add_(self.d_y, alpha=self.config.tau).div_(self.norm)
