"""Cost and accuracy of every flow method on one CPU thread, against OpenCV's DualTVL1 where there is one.

    python -m benchmarks.flow [--sizes 112x112 224x224 256x340] [--noise 0] [--compile] [--raft small=FILE large=FILE]

DualTVL1 is in OpenCV's contrib wheel alone (`pip install opencv-contrib-python-headless`, in an environment of its own:
it does not live beside the plain wheel). Cost is CPU time of the one thread, so that other processes on the machine
disturb it little. RAFT costs the same whatever its weights: without a file of trained ones only its cost is shown, of
untrained ones. Scenes: see flow_scenes.py. Error is the mean end-point error in pixels over visible pixels.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import safetensors.torch
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.flow_scenes import FlowScene, standard_scenes
from benchmarks.tvl1_compiled import CompiledTvl1Solver
from tadscale.flow.dis import Dis, DisConfig
from tadscale.flow.motion import Motion
from tadscale.flow.precomputed import Precomputed
from tadscale.flow.raft.config import RaftConfig
from tadscale.flow.raft.estimator import Raft
from tadscale.flow.raft.network import RaftNetwork, Variant
from tadscale.flow.raft.operations import MIN_SIDE_PX
from tadscale.flow.temporal_gradient import FAST_SPAN_FRAMES, SLOW_SPAN_FRAMES, TemporalGradient
from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.estimator import Tvl1
from tadscale.flow.tvl1.solver import Tvl1Solver

VIDEO_FPS = 30
COPIES = 4  # of the scenes, in the batch that is timed: a window of video has about as many pairs
FAR = ("translation 8 px", "translation 16 px")  # beyond the reach of some pyramids: shown apart from the rest
VARIANTS: tuple[Variant, ...] = ("small", "large")
MOTIONS: dict[str, Motion] = {
    "temporal gradient, fast": TemporalGradient(FAST_SPAN_FRAMES),
    "temporal gradient, slow": TemporalGradient(SLOW_SPAN_FRAMES),
    "precomputed, once decoded": Precomputed(),
}
Flow = Callable[[Tensor, Tensor], Tensor]


class Result(NamedTuple):
    """One method at one size."""

    method: str
    ms_per_pair: float
    error_px: dict[str, float]  # by scene; empty for a temporal gradient

    def near_error_px(self) -> float:
        """Mean end-point error over the near scenes."""
        return float(np.mean([error for name, error in self.error_px.items() if name not in FAR]))


def main(argv: list[str] | None = None) -> None:
    """Measure every method at every size, and print the tables."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    console = Console(width=None if sys.stdout.isatty() else 120)
    for size in arguments.sizes:
        height, width = (int(side) for side in size.split("x"))
        scenes = standard_scenes(height, width)
        frames = tuple(noisy_frames(scenes, arguments.noise))
        results = [measure(name, flow, scenes, *frames) for name, flow in methods(arguments.compile).items()]
        results += [measure_motion(name, motion, frames[0]) for name, motion in MOTIONS.items()]
        if min(height, width) >= MIN_SIDE_PX:
            results += [measure_raft(variant, arguments.raft.get(variant), scenes, *frames) for variant in VARIANTS]
        if hasattr(cv2, "optflow"):
            results.insert(0, measure_dual_tvl1(scenes, *frames))
        console.print(table(f"height {height} x width {width}, noise {arguments.noise:g}", results))
    if not hasattr(cv2, "optflow"):
        console.print("OpenCV DualTVL1 left out: this OpenCV has no optflow module (it is in the contrib wheel).")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["112x112", "224x224", "256x340"], help="HEIGHTxWIDTH ...")
    parser.add_argument(
        "--noise", type=float, default=0.0, help="standard deviation of noise on the frames, grey levels"
    )
    parser.add_argument("--compile", action="store_true", help="also TV-L1 under torch.compile (needs a C++ compiler)")
    parser.add_argument("--raft", nargs="+", default=[], metavar="VARIANT=FILE", help="trained weights of RAFT")
    arguments = parser.parse_args(argv)
    arguments.raft = dict(given.split("=", 1) for given in arguments.raft)
    return arguments


def methods(compiled: bool) -> dict[str, Flow]:
    """What is measured, by the name in the table."""
    found: dict[str, Flow] = {}
    for warps, iterations in ((3, 20), (3, 10), (2, 10), (1, 5)):
        config = Tvl1Config(warps=warps, iterations=iterations)
        label = f"tvl1 {warps} x {iterations}" + (" (default)" if config == Tvl1Config() else "")
        found[label] = Tvl1(config).flow
    found["tvl1 3 x 20, torch"] = Tvl1(solver_type=Tvl1Solver).flow
    if compiled:
        found["tvl1 3 x 20, torch.compile"] = Tvl1(solver_type=CompiledTvl1Solver).flow
    for preset in ("medium", "fast", "ultrafast"):
        found[f"dis {preset}"] = Dis(DisConfig(preset=preset)).flow
    return found


def noisy_frames(scenes: list[FlowScene], noise: float) -> list[Tensor]:
    """First and second frames, `[N, H, W]` uint8 each."""
    random = np.random.default_rng(0)
    stacks = [np.stack([scene.first for scene in scenes]), np.stack([scene.second for scene in scenes])]
    noisy = [np.rint(stack + random.normal(0, noise, stack.shape)).clip(0, 255) for stack in stacks]
    return [torch.from_numpy(stack.astype(np.uint8)) for stack in noisy]


def measure(method: str, flow: Flow, scenes: list[FlowScene], first: Tensor, second: Tensor) -> Result:
    """Cost of a batch of all scenes, some copies of each (best of three), and the error of each scene."""
    estimate = flow(first, second)
    many_first, many_second = first.repeat(COPIES, 1, 1), second.repeat(COPIES, 1, 1)
    cost = min(cpu_seconds(lambda: flow(many_first, many_second)) for _ in range(3)) / len(many_first)
    errors = {scene.name: scene.end_point_error(found.numpy()) for scene, found in zip(scenes, estimate, strict=True)}
    return Result(method, 1e3 * cost, errors)


def measure_motion(name: str, motion: Motion, first: Tensor) -> Result:
    """Cost of what is not flow between two frames, on windows of as many frames as there are scenes."""
    frames = first[None, ..., None].repeat(COPIES, 1, 1, 1, 3)  # [COPIES, T, H, W, 3]
    cost = min(cpu_seconds(lambda: motion(frames)) for _ in range(5)) / (COPIES * len(first))
    return Result(name, 1e3 * cost, {})


def measure_raft(
    variant: Variant, weights: str | None, scenes: list[FlowScene], first: Tensor, second: Tensor
) -> Result:
    """Cost and errors of RAFT, untrained where no weights are given: the cost is the same."""
    with tempfile.TemporaryDirectory() as folder:
        untrained = Path(folder, "untrained.safetensors")
        if weights is None:
            safetensors.torch.save_file(RaftNetwork(variant).state_dict(), untrained)
        flow = Raft(RaftConfig(variant=variant, weights=weights or str(untrained))).flow
    found: list[Tensor] = []
    cost = cpu_seconds(lambda: found.append(flow(first, second))) / len(first)  # seconds each: once is exact enough
    if weights is None:
        return Result(f"raft {variant} (cost only)", 1e3 * cost, {})
    errors = {scene.name: scene.end_point_error(one.numpy()) for scene, one in zip(scenes, found[0], strict=True)}
    return Result(f"raft {variant}", 1e3 * cost, errors)


def measure_dual_tvl1(scenes: list[FlowScene], first: Tensor, second: Tensor) -> Result:
    """OpenCV's TV-L1 at its defaults. It stops when it has converged: the cost is that of the median scene."""
    method = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]  # the contrib wheel's
    costs, errors = [], {}
    for scene, one, two in zip(scenes, first.numpy(), second.numpy(), strict=True):
        start = time.thread_time()
        found = method.calc(one, two, None)  # [H, W, 2]
        costs.append(time.thread_time() - start)
        errors[scene.name] = scene.end_point_error(found.transpose(2, 0, 1))
    return Result("OpenCV DualTVL1", 1e3 * float(np.median(costs)), errors)


def cpu_seconds(work: Callable[[], object]) -> float:
    """This thread's CPU time for one call."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def table(title: str, results: list[Result]) -> Table:
    """Cost, speed, multiple of real time, speed-up over DualTVL1 (where it ran), and errors in pixels: the mean over
    the near scenes, then of each far one."""
    columns = ("method", "ms/pair", "pairs/s", f"x {VIDEO_FPS} fps", "speed-up", "error", "8 px", "16 px")
    out = Table(*columns, title=title)
    reference = next((result for result in results if result.method == "OpenCV DualTVL1"), None)
    for result in results:
        rate = 1e3 / result.ms_per_pair
        speed_up = f"{reference.ms_per_pair / result.ms_per_pair:.1f}" if reference else "-"
        errors = [result.near_error_px(), *(result.error_px[name] for name in FAR)] if result.error_px else []
        cost = (f"{result.ms_per_pair:.2f}", f"{rate:.0f}", f"{rate / VIDEO_FPS:.1f}", speed_up)
        out.add_row(result.method, *cost, *(f"{error:.3f}" for error in errors))
    return out


if __name__ == "__main__":
    main()
