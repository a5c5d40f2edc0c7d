"""The CPU's loops against torch's solver in float64, which is tested against the published iteration."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.estimator import Tvl1
from tadscale.flow.tvl1.numba_solver import NumbaTvl1Solver
from tadscale.flow.tvl1.solver import Tvl1Solver

# Height, width and pairs: rows that fill cache lines and do not, pictures of more rows than iterations and of fewer.
SIZES = [(37, 53, 2), (16, 32, 3), (8, 8, 5), (9, 250, 1)]


def problem(height, width, count):
    """Frames of soft blobs, the second one moved and noisy, and a rough flow that leaves the picture in places."""
    generator = torch.Generator().manual_seed(width)
    blobs = torch.rand(count, 1, height // 3, width // 3, generator=generator) * 255
    first = F.interpolate(blobs, (height, width), mode="bicubic")[:, 0]
    second = first.roll((1, 2), (1, 2)) + 3 * torch.randn(first.shape, generator=generator)
    return first, second, 1.5 * torch.randn(2, *first.shape, generator=generator)


def refine(solver_type, config, first, second, flow):
    count, height, width = first.shape
    return solver_type(count, height, width, config, first).refine(first, second, flow).clone()


# The tolerances of the GPU kernels, which say where they come from: test_triton_solver.py.
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("warps", "iterations", "tolerance_px"), [(1, 1, 1e-4), (1, 20, 5e-4), (3, 20, 2e-3)])
def test_a_level_equals_torch(size, warps, iterations, tolerance_px):
    config = Tvl1Config(warps=warps, iterations=iterations)
    first, second, flow = problem(*size)
    exact = refine(Tvl1Solver, config, first.double(), second.double(), flow.double())
    assert (exact - flow).abs().mean() > 0.1  # px: there was something to do
    found = refine(NumbaTvl1Solver, config, first, second, flow)
    torch.testing.assert_close(found.double(), exact, atol=tolerance_px, rtol=0)


def test_a_solver_forgets_what_it_did_before():
    config, one = Tvl1Config(), problem(16, 32, 3)
    solver = NumbaTvl1Solver(3, 16, 32, config, one[0])
    solver.refine(one[1], one[0], one[2] + 1)
    assert torch.equal(solver.refine(*one), refine(NumbaTvl1Solver, config, *one))


def test_frames_in_any_memory_layout():
    first, second, flow = problem(16, 32, 3)
    strided = [frames.mT.contiguous().mT for frames in (first, second, flow)]
    expected = refine(NumbaTvl1Solver, Tvl1Config(), first, second, flow)
    torch.testing.assert_close(refine(NumbaTvl1Solver, Tvl1Config(), *strided), expected, atol=1e-4, rtol=0)


def test_a_flow_that_is_no_number_leaves_the_picture():
    first, second, flow = problem(16, 32, 1)
    flow[0, 0, 3, 5] = float("nan")
    assert refine(NumbaTvl1Solver, Tvl1Config(warps=1, iterations=1), first, second, flow)[:, 0, 10:].isfinite().all()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_pairs(threads):
    first, second, _ = problem(24, 40, 5)
    expected = Tvl1().flow(first, second)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():  # as the motion actors call it
            found = Tvl1().flow(first, second)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_an_error_in_a_thread_is_raised(monkeypatch):
    def refuse(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(NumbaTvl1Solver, "refine", refuse)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(MemoryError, match="no room"):
        Tvl1().flow(*problem(24, 40, 4)[:2])


def test_float64_is_left_to_torch():
    with pytest.raises(AssertionError):
        NumbaTvl1Solver(1, 8, 8, Tvl1Config(), torch.zeros(1, dtype=torch.float64))


PACK = """
import numpy as np
from numba.core import caching
if {nowhere}:
    caching.CacheImpl._locator_classes = []
from tadscale.flow.tvl1.loops import pack
packed = np.zeros((3, 4, 4), np.float32)
pack(np.arange(12, dtype=np.float32).reshape(3, 4), packed)
print(packed.sum(), sum(pack.stats.cache_hits.values()))
"""


def test_machine_code_is_compiled_once_a_machine_and_each_time_where_nothing_can_be_kept(tmp_path):
    def run(nowhere: bool) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", PACK.format(nowhere=nowhere)],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    (total, first_hits), (same, hits), (again, _) = run(False), run(False), run(True)
    assert (first_hits, hits) == ("0", "1")
    assert total == same == again
