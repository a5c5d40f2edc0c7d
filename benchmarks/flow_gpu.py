"""TV-L1 on one CUDA device: our kernels, plain torch and torch.compile on the same frames, against the device's own limits.

    python -m benchmarks.flow_gpu [--sizes 112x112 224x224 256x340] [--pairs 320] [--sweep]

Times are medians, by CUDA events, of whole flows of uint8 frames that are on the device already. The limits are measured
first: bytes a second of a large copy, float32 operations a second of a large matrix product. `--sweep` adds other tiles and
launches than the kernels' defaults, and some seconds of compilation for each. Scenes: see flow_scenes.py. The error is the
mean end-point error in pixels over visible pixels; "near" leaves out the translations by 8 and 16 px.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.flow_scenes import FlowScene, standard_scenes
from benchmarks.tvl1_compiled import CompiledTvl1Solver
from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.estimator import Tvl1
from tadscale.flow.tvl1.solver import Tvl1Solver
from tadscale.flow.tvl1.triton_solver import TritonTvl1Solver
from tadscale.flow.warp import pyramid

VIDEO_FPS = 30
FAR = ("translation 8 px", "translation 16 px")
CONFIG = Tvl1Config()
Flow = Callable[[Tensor, Tensor], Tensor]
SolverType = type[Tvl1Solver] | type[TritonTvl1Solver]

# Work is counted as if every operation fetched its operands from memory, each byte of them once: what caches save is not
# taken off, so that a share of the copy's bandwidth above 1 means that they did. Planes of 4 bytes a pixel, by the code:
# tvl1/solver.py's iteration reads and writes 93 (the data term 10, the step of u 7, four additions of p 24, differences 8,
# their norm 20, the steps of p and their division 24); tvl1_compiled.py's two kernels 13 and 14; what a warp does before its
# iterations, in torch, 90.
TORCH_PLANES = {Tvl1Solver: 93, CompiledTvl1Solver: 27}
TORCH_WARP_PLANES = 90
TORCH_LEVEL_PLANES = 26  # gradients of both frames, and their stacking
LEVEL_PLANES = 10  # of all paths: pyramids of both frames 4, the flow resized 2 and copied 4
WARP_PLANES = 7  # `linearise`: two frames and the flow's two planes read, three written
# Float32 operations, a multiply-add being two, a root or division one. For the kernels, as compiled: 14 multiply-adds, 23
# sums and products, 2 comparisons, 4 roots; for torch, as written. A warp's are about as many for every path.
TRITON_OPERATIONS, TORCH_OPERATIONS, WARP_OPERATIONS = 57, 48, 60


class Work(NamedTuple):
    """What a pair of frames costs."""

    bytes: float
    operations: float


class Limits(NamedTuple):
    """What the device does in a second, measured."""

    bytes: float
    operations: float


class Path(NamedTuple):
    """A way to compute the flow."""

    name: str
    flow: Flow
    solver_type: SolverType


def main(argv: list[str] | None = None) -> int:
    """Measure every solver against the device's limits; 2 where there is no GPU."""
    arguments = parse_arguments(argv)
    if not torch.cuda.is_available() or find_spec("triton") is None:
        sys.stderr.write(
            "benchmarks.flow_gpu needs a CUDA device, and a torch built for it, with Triton. Found none.\n"
        )
        return 2
    limits = measure_limits()
    say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {arguments.pairs} pairs a call")
    say(f"limits, measured: copy {limits.bytes / 1e12:.2f} TB/s, float32 {limits.operations / 1e12:.1f} TFLOP/s")
    for size in arguments.sizes:
        height, width = (int(side) for side in size.split("x"))
        say(f"\nheight {height} x width {width}, {CONFIG.warps} warps x {CONFIG.iterations} iterations")
        say(f"{'':34}  pairs/s  x {VIDEO_FPS} fps    near   8 px  16 px  MB/pair  of copy  MFLOP/pair  of float32")
        report(height, width, arguments.pairs, limits, arguments.sweep)
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["112x112", "224x224", "256x340"], help="HEIGHTxWIDTH ...")
    parser.add_argument("--pairs", type=int, default=320, help="pairs of frames a call, copies of the scenes")
    parser.add_argument(
        "--sweep", action="store_true", help="also other tiles, launches and dual variables of the kernels"
    )
    return parser.parse_args(argv)


def report(height: int, width: int, pairs: int, limits: Limits, sweep: bool) -> None:
    """One line for each path at one size."""
    scenes = standard_scenes(height, width)
    first, second = (
        torch.from_numpy(np.stack([getattr(scene, name) for scene in scenes])).cuda() for name in ("first", "second")
    )
    pairs = max(pairs, len(scenes))
    copies = -(-pairs // len(scenes))
    many = [frames.repeat(copies, 1, 1)[:pairs] for frames in (first, second)]
    for path in paths(many, sweep):
        found = path.flow(*many)[: len(scenes)]
        errors = end_point_errors(scenes, found)
        rate = pairs / seconds(partial(path.flow, *many))
        work = count_work(path.solver_type, height, width)
        shares = rate * work.bytes / limits.bytes, rate * work.operations / limits.operations
        say(
            f"{path.name:34} {rate:8.0f} {rate / VIDEO_FPS:9.1f}  {errors[0]:6.3f} {errors[1]:6.3f} {errors[2]:6.3f}"
            f" {work.bytes / 1e6:8.1f} {shares[0]:8.0%} {work.operations / 1e6:11.0f} {shares[1]:11.0%}"
        )


def paths(frames: list[Tensor], sweep: bool) -> list[Path]:
    """What is measured. The graph is captured for these frames."""
    kernels = Tvl1(CONFIG, TritonTvl1Solver)
    half = variant(dual_dtype=torch.float16)
    out = [
        Path("kernels (default on a GPU)", kernels.flow, TritonTvl1Solver),
        Path("kernels, as a CUDA graph", captured(kernels.flow, frames), TritonTvl1Solver),
        Path("kernels, float16 dual variable", Tvl1(CONFIG, half).flow, half),
        Path("torch", Tvl1(CONFIG, Tvl1Solver).flow, Tvl1Solver),
        Path("torch.compile", Tvl1(CONFIG, CompiledTvl1Solver).flow, CompiledTvl1Solver),
    ]
    for tile in ((64, 64), (64, 32), (32, 64)) if sweep else ():
        for iterations in (2, 4, 5, 7, 10):
            kind = variant(tile=tile, iterations_per_launch=iterations)
            out.append(Path(f"tile {tile[0]} x {tile[1]}, {iterations} a launch", Tvl1(CONFIG, kind).flow, kind))
    return out


def variant(**settings: object) -> type[TritonTvl1Solver]:
    """The Triton solver with other settings."""
    return type("Variant", (TritonTvl1Solver,), settings)


def captured(flow: Flow, frames: list[Tensor]) -> Flow:
    """A flow as one CUDA graph: a call replays it on the frames it was captured with, whatever it is given."""
    flow(*frames)  # compiles the kernels, which a capture must not
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = flow(*frames)

    def replay(*_: Tensor) -> Tensor:
        graph.replay()
        return out

    return replay


def end_point_errors(scenes: list[FlowScene], flow: Tensor) -> tuple[float, ...]:
    """The mean over the near scenes, and each far one's."""
    errors = {scene.name: scene.end_point_error(found.numpy()) for scene, found in zip(scenes, flow.cpu(), strict=True)}
    return float(np.mean([error for name, error in errors.items() if name not in FAR])), *(errors[name] for name in FAR)


def count_work(solver_type: SolverType, height: int, width: int) -> Work:
    """Of a pair of frames, over all levels of its pyramid."""
    works = []
    for level in pyramid(torch.zeros(1, height, width), CONFIG.levels):
        if issubclass(solver_type, TritonTvl1Solver):
            works.append(triton_level(solver_type, *level.shape[1:]))
        else:
            works.append(torch_level(solver_type, *level.shape[1:]))
    return Work(sum(work.bytes for work in works), sum(work.operations for work in works))


def torch_level(solver_type: type[Tvl1Solver], height: int, width: int) -> Work:
    """What the solver in plain torch moves and computes for a pair on one level of the pyramid."""
    iterations = CONFIG.warps * CONFIG.iterations
    planes = (
        iterations * TORCH_PLANES[solver_type] + CONFIG.warps * TORCH_WARP_PLANES + TORCH_LEVEL_PLANES + LEVEL_PLANES
    )
    operations = iterations * TORCH_OPERATIONS + CONFIG.warps * WARP_OPERATIONS
    return Work(4 * planes * height * width, operations * height * width)


def triton_level(solver_type: type[TritonTvl1Solver], height: int, width: int) -> Work:
    """A launch reads data, flow and dual variable of its tiles, borders included, and writes the latter two; it computes all
    of every tile, also what lies outside the picture."""
    solver = solver_type(1, height, width, CONFIG, torch.empty(0))
    state = 2 * 4 + 4 * solver.dual_dtype.itemsize  # bytes a pixel
    moved = operations = 0
    for iterations in solver.launches():
        across, down, _ = solver.grid(iterations)
        overlap_x, overlap_y = 2 * iterations * (across - 1), 2 * iterations * (down - 1)
        moved += (3 * 4 + state) * (height + overlap_y) * (width + overlap_x) + state * height * width
        operations += TRITON_OPERATIONS * iterations * across * down * solver.tiles[0] * solver.tiles[1]
    once = 4 * LEVEL_PLANES + 4 * solver.dual_dtype.itemsize  # the dual variable set to zero
    bytes_a_warp = moved + 4 * WARP_PLANES * height * width
    operations_a_warp = operations + WARP_OPERATIONS * height * width
    return Work(CONFIG.warps * bytes_a_warp + once * height * width, CONFIG.warps * operations_a_warp)


def measure_limits() -> Limits:
    """The device's memory bandwidth and float32 rate, by a copy and a matrix product."""
    source = torch.rand(1 << 28, device="cuda")  # 1 GiB: no cache holds it
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / seconds(lambda: target.copy_(source))
    side = 8192
    left, right = torch.rand(2, side, side, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 multiply-adds, not the matrix units
    return Limits(copied, 2 * side**3 / seconds(lambda: left @ right))


def seconds(work: Callable[[], object], repeats: int = 10) -> float:
    """Median time of a call on the device, after three that do not count."""
    times = []
    for _ in range(3 + repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return float(np.median(times[3:]))


def say(line: str) -> None:
    """Print a line at once: a run may be cut off."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
