"""The GPU kernels in Triton's interpreter, on CPU tensors, against torch's solver; that they compile for a GPU; and, where
there is one, on it.

The interpreter has to be asked for before Triton is imported, which other tests may have done in this process. So this file
is also a script: it runs all cases in a process of its own, and saves their flows for the tests to compare.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.flow_scenes import affine, moving_object
from tadscale.flow.tvl1 import estimator as tvl1
from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.estimator import Tvl1, fastest_solver
from tadscale.flow.tvl1.numba_solver import NumbaTvl1Solver
from tadscale.flow.tvl1.solver import FLAT_GRADIENT, Tvl1Solver
from tadscale.flow.tvl1.triton_solver import DATA_TILE, PIXELS_PER_THREAD, STRIP, TritonTvl1Solver

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed (Linux on x86-64 has it)"
)
needs_compiler = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="TRITON_INTERPRET is set")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Case(NamedTuple):
    """One level of a pyramid. Unless the tile holds the picture, launches are of five iterations at most.

    The interpreter takes some 30 ms for an iteration of a tile, whatever its size: cases have few tiles.
    """

    warps: int
    iterations: int
    size: tuple[int, int] = (37, 53)
    count: int = 1
    tile: tuple[int, int] = (64, 64)
    dual_dtype: torch.dtype = torch.float32
    tolerance_px: float = 5e-4

    def config(self):
        return Tvl1Config(warps=self.warps, iterations=self.iterations)


# Tolerances are four to ten times what was measured, which is no more than torch's own float32 differs from float64 by.
# Grey levels are rounded by 1.5e-5 near 255, and that is divided by gradients of some levels a pixel: 2e-5 px after one
# iteration, 8e-5 px after 20. Each warp reads the pictures at a place that is off by as much: 3e-4 px after three.
CASES = {
    "one iteration": Case(1, 1, count=2, tolerance_px=1e-4),
    "20 iterations": Case(1, 20),
    "three warps": Case(3, 20, tolerance_px=2e-3),
    "tiles in two directions, launches of 5, 5 and 2": Case(1, 12, tile=(32, 32)),
    "tiles in one direction, three warps": Case(3, 7, size=(13, 45), tile=(16, 32), tolerance_px=2e-3),
    "a picture of the tile's size": Case(1, 6, size=(16, 32), tile=(16, 32)),
    "two pictures a pixel larger": Case(1, 6, size=(17, 33), count=2, tile=(16, 32)),
    "the smallest level": Case(1, 10, size=(8, 8), count=3),
    # A dual variable of up to 1 is rounded by 2e-4 at each launch, and times theta added to the flow: 3e-4 px were measured.
    "dual variable in float16": Case(1, 12, size=(17, 33), tile=(16, 32), dual_dtype=torch.float16, tolerance_px=2e-3),
}
SCENE = moving_object("object", 48, 64, affine(48, 64, shift_px=(-1, 0.5)), affine(48, 64, shift_px=(3, 2), degrees=2))

SCENE_CONFIG = Tvl1Config(warps=2, iterations=10)  # for the interpreter: the default takes it three times as long


def problem(case, device="cpu"):
    """Frames of soft blobs, the second one moved and noisy, and a rough flow that leaves the picture in places."""
    generator = torch.Generator().manual_seed(case.size[1])
    height, width = case.size
    blobs = torch.rand(case.count, 1, height // 3, width // 3, generator=generator) * 255
    first = F.interpolate(blobs, case.size, mode="bicubic")[:, 0]
    second = first.roll((1, 2), (1, 2)) + 3 * torch.randn(first.shape, generator=generator)
    flow = 1.5 * torch.randn(2, *first.shape, generator=generator)
    return first.to(device), second.to(device), flow.to(device)


def by_torch(case, first, second, flow):
    solver = Tvl1Solver(case.count, *case.size, case.config(), first)
    return solver.refine(first, second, flow)


def by_triton(case, first, second, flow):
    solver_type = type("Solver", (TritonTvl1Solver,), {"tile": case.tile, "dual_dtype": case.dual_dtype})
    solver = solver_type(case.count, *case.size, case.config(), first)
    for buffer in (*solver.flows, *solver.duals, solver.data):
        buffer.fill_(float("nan"))  # what is read before it was written spoils the flow
    return solver.refine(first, second, flow)


def scene_frames(device="cpu"):
    return [torch.from_numpy(frame)[None].to(device) for frame in (SCENE.first, SCENE.second)]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """Flows by the name of their case, as the interpreter computed them."""
    path = tmp_path_factory.mktemp("triton") / "flows.pt"
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", __name__, str(path)], env=environment, check=True, timeout=240)
    return torch.load(path)


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_a_level_equals_torch(name, interpreted):
    first, second, flow = problem(CASES[name])
    expected = by_torch(CASES[name], first, second, flow)
    exact = by_torch(CASES[name], first.double(), second.double(), flow.double())
    assert (expected - flow).abs().mean() > 0.1  # px: there was something to do
    torch.testing.assert_close(interpreted[name], expected, atol=CASES[name].tolerance_px, rtol=0)
    torch.testing.assert_close(interpreted[name].double(), exact, atol=CASES[name].tolerance_px, rtol=0)


@needs_triton
def test_a_whole_flow_errs_as_torch_does(interpreted):
    expected = Tvl1(SCENE_CONFIG).flow(*scene_frames())[0].numpy()
    found = interpreted["scene"][0].numpy()
    assert abs(SCENE.end_point_error(found) - SCENE.end_point_error(expected)) < 1e-3
    assert np.abs(found - expected).mean() < 1e-3  # px


def machine_code(kernel, constants, warps):
    """What a kernel compiles to for compute capability 9.0, with sides and offsets that 16 divides, as those of 224 px."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    pointers = ("first", "second", "flow", "flow_in", "dual_in", "data", "flow_out", "dual_out")
    types = dict.fromkeys(kernel.arg_names, "i32") | dict.fromkeys(constants, "constexpr")
    types |= {name: "*fp32" for name in pointers if name in types}
    types |= {name: "fp32" for name in ("theta", "dual_step", "threshold") if name in types}
    divisible = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(types) if types[name] in ("i32", "*fp32")}
    source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=divisible)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["sass"]


@needs_triton
@needs_compiler
@pytest.mark.parametrize("side", [64, 32, 16])
def test_iterations_compile_for_a_gpu_and_stay_in_registers(side, tmp_path, monkeypatch):
    """The interpreter takes what the compiler refuses. No GPU is needed to compile for one."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from tadscale.flow.tvl1.kernels import iterate

    constants = {"TILE_Y": side, "TILE_X": side, "STRIP": STRIP, "ITERATIONS": 5, "FLAT_GRADIENT": FLAT_GRADIENT}
    code = machine_code(iterate, constants, warps=max(1, side * side // (32 * PIXELS_PER_THREAD)))
    assert "FFMA" in code
    assert "LDL" not in code  # loads of what did not fit the registers


@needs_triton
@needs_compiler
def test_the_data_term_compiles_for_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from tadscale.flow.tvl1.kernels import linearise

    assert "FFMA" in machine_code(linearise, {"TILE_Y": DATA_TILE[0], "TILE_X": DATA_TILE[1]}, warps=4)


def test_the_fastest_solver_depends_on_device_dtype_and_what_is_installed(monkeypatch):
    def fastest(device, dtype):
        return fastest_solver(SimpleNamespace(device=torch.device(device), dtype=dtype))

    monkeypatch.setattr(tvl1, "triton_works", lambda: True)
    assert fastest("cpu", torch.float32) is NumbaTvl1Solver
    assert fastest("cuda", torch.float32) is TritonTvl1Solver
    assert fastest("cpu", torch.float64) is fastest("cuda", torch.float64) is Tvl1Solver
    monkeypatch.setattr(tvl1, "triton_works", lambda: False)
    monkeypatch.setattr(tvl1, "find_spec", lambda name: None)
    assert fastest("cpu", torch.float32) is fastest("cuda", torch.float32) is Tvl1Solver


@pytest.mark.parametrize(("installed", "compiler", "works"), [(1, "gcc", True), (1, None, False), (None, "gcc", False)])
def test_triton_wants_a_c_compiler(installed, compiler, works, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(tvl1, "find_spec", lambda name: installed)
    monkeypatch.setattr(tvl1, "which", lambda name: compiler if name == "gcc" else None)
    assert tvl1.triton_works.__wrapped__() is works


def test_the_solver_does_not_change_the_fingerprint():
    assert Tvl1(solver_type=TritonTvl1Solver).fingerprint() == Tvl1().fingerprint()


@needs_triton
@needs_gpu
@pytest.mark.parametrize("name", CASES)
def test_a_level_on_a_gpu_equals_torch_on_the_cpu(name):
    # A GPU's roots are good to some 1e-7 of themselves, not to the last bit: the tolerances leave room for that.
    expected = by_torch(CASES[name], *problem(CASES[name]))
    found = by_triton(CASES[name], *problem(CASES[name], "cuda"))
    torch.testing.assert_close(found.cpu(), expected, atol=CASES[name].tolerance_px, rtol=0)


@needs_triton
@needs_gpu
def test_a_flow_replays_from_a_cuda_graph():
    estimator, frames = Tvl1(), [torch.zeros(1, 48, 64, device="cuda", dtype=torch.uint8) for _ in range(2)]
    estimator.flow(*frames)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        flow = estimator.flow(*frames)
    for frame, given in zip(frames, scene_frames("cuda"), strict=True):
        frame.copy_(given)
    graph.replay()
    torch.testing.assert_close(flow, estimator.flow(*frames), atol=0, rtol=0)
    torch_error = SCENE.end_point_error(Tvl1().flow(*scene_frames())[0].numpy())
    assert abs(SCENE.end_point_error(flow[0].cpu().numpy()) - torch_error) < 1e-3


def main(path):
    torch.set_num_threads(1)
    flows = {name: by_triton(case, *problem(case)) for name, case in CASES.items()}
    flows["scene"] = Tvl1(SCENE_CONFIG, solver_type=TritonTvl1Solver).flow(*scene_frames())
    torch.save(flows, path)


if __name__ == "__main__":
    main(sys.argv[1])
