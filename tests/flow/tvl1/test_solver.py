"""The batched iteration against the published one, number by number in float64 loops."""

import numpy as np
import pytest
import torch

from benchmarks import tvl1_compiled
from benchmarks.tvl1_compiled import CompiledTvl1Solver
from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.solver import FLAT_GRADIENT, Tvl1Solver

COUNT, HEIGHT, WIDTH = 3, 7, 10
CONFIG = Tvl1Config(iterations=6, tau=0.2, data_weight=0.4, theta=0.35)


def threshold(u, residual, gradient, u0, config):
    """v of one pixel: the three cases of Zach, Pock and Bischof 2007. All arguments [2] but the residual."""
    rho = residual + gradient @ (u - u0)
    squared = gradient @ gradient + FLAT_GRADIENT
    bound = config.data_weight * config.theta
    if rho < -bound * squared:
        return u + bound * gradient
    if rho > bound * squared:
        return u - bound * gradient
    return u - rho * gradient / squared


def divergence(p, y, x):
    """div of p [2 (x, y), H, W] at a pixel: backward differences, p taken as zero outside (IPOL 2013)."""
    height, width = p.shape[1:]
    across = p[0, y, x] if x == 0 else -p[0, y, x - 1] if x == width - 1 else p[0, y, x] - p[0, y, x - 1]
    down = p[1, y, x] if y == 0 else -p[1, y - 1, x] if y == height - 1 else p[1, y, x] - p[1, y - 1, x]
    return across + down


def forward_difference(u, y, x):
    height, width = u.shape
    across = u[y, x + 1] - u[y, x] if x + 1 < width else 0.0
    down = u[y + 1, x] - u[y, x] if y + 1 < height else 0.0
    return np.array([across, down])


def published_iterations(flow, residual, gradient, p, config):
    """The inner loop of IPOL 2013 for one pair. flow [2, H, W], p [2 (u, v), 2 (x, y), H, W] changed in place."""
    u0, u = flow, flow.copy()
    pixels = [(y, x) for y in range(HEIGHT) for x in range(WIDTH)]
    for _ in range(config.iterations):
        v = np.empty_like(u)
        for y, x in pixels:
            v[:, y, x] = threshold(u[:, y, x], residual[y, x], gradient[:, y, x], u0[:, y, x], config)
        for y, x in pixels:
            for d in (0, 1):
                u[d, y, x] = v[d, y, x] + config.theta * divergence(p[d], y, x)
        for y, x in pixels:
            for d in (0, 1):
                slope = config.tau / config.theta * forward_difference(u[d], y, x)
                p[d, :, y, x] = (p[d, :, y, x] + slope) / (1 + np.hypot(*slope))
    return u


def problem(seed):
    rng = np.random.default_rng(seed)
    flow = rng.normal(0, 2, (2, COUNT, HEIGHT, WIDTH))
    residual = rng.normal(0, 3, (COUNT, HEIGHT, WIDTH))
    gradient = rng.normal(0, 4, (2, COUNT, HEIGHT, WIDTH)) * (rng.random((COUNT, HEIGHT, WIDTH)) > 0.2)
    return flow, residual, gradient


@pytest.mark.parametrize("solver_type", [Tvl1Solver, CompiledTvl1Solver])
def test_solver_equals_the_published_iteration(solver_type, monkeypatch):
    # The benchmarks' steps are tested as they are written: compiling them takes half a minute.
    monkeypatch.setattr(tvl1_compiled, "_compiled_steps", lambda: (tvl1_compiled._primal, tvl1_compiled._dual))
    solver = solver_type(COUNT, HEIGHT, WIDTH, CONFIG, torch.empty(0, dtype=torch.float64))
    duals = np.zeros((COUNT, 2, 2, HEIGHT, WIDTH))
    for seed in (0, 1):  # the second call is a second warp: it starts from the dual variable of the first
        flow, residual, gradient = problem(seed)
        got = solver.solve(*(torch.from_numpy(array) for array in (flow, residual, gradient))).numpy()
        for n in range(COUNT):
            want = published_iterations(flow[:, n], residual[n], gradient[:, n], duals[n], CONFIG)
            np.testing.assert_allclose(got[:, n], want, atol=1e-9)


def test_reset_forgets_the_problem_before():
    solver = Tvl1Solver(COUNT, HEIGHT, WIDTH, CONFIG, torch.empty(0, dtype=torch.float64))
    arrays = [torch.from_numpy(array) for array in problem(0)]
    fresh = solver.solve(*arrays)
    kept = solver.solve(*arrays)
    solver.reset()
    assert torch.equal(solver.solve(*arrays), fresh)
    assert not torch.allclose(kept, fresh)


def test_without_data_total_variation_shrinks_and_the_mean_stays():
    solver = Tvl1Solver(1, 16, 16, Tvl1Config(iterations=200), torch.empty(0, dtype=torch.float64))
    flow = torch.randn(2, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = solver.solve(flow, torch.zeros(1, 16, 16).double(), torch.zeros(2, 1, 16, 16).double())
    torch.testing.assert_close(out.mean((1, 2, 3)), flow.mean((1, 2, 3)))
    assert out.diff(dim=-1).abs().sum() < 0.2 * flow.diff(dim=-1).abs().sum()
