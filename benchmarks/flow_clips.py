"""TV-L1 and DIS on real video, against OpenCV's DualTVL1 run to convergence, on one CPU thread.

    python -m benchmarks.flow_clips CLIP... [--size 224x224] [--pairs 6]

Needs OpenCV's contrib wheel (`pip install opencv-contrib-python-headless`, in an environment of its own). There is no true
flow of real video. Three figures stand in for it, each a mean over the pairs: the distance from converged DualTVL1, in
pixels; what of the brightness difference is left when the second frame is warped back, in grey levels (a flow that fits
noise lowers it, too); and the CPU time of the one thread. "Converged" is DualTVL1 with four times the iterations and a
hundredth of its stopping threshold; a pair of 224 px takes it half a minute.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tadscale.data.decode import decode_frames, probe_video
from tadscale.flow.dis import Dis
from tadscale.flow.estimator import luma
from tadscale.flow.tvl1 import Tvl1, Tvl1Config

Field = NDArray[np.float32]  # [2, H, W]
Method = Callable[[NDArray[np.uint8], NDArray[np.uint8]], Field]
SPAN = (0.1, 0.9)  # of a clip's length: where pairs are taken


class Measured(NamedTuple):
    """One method on the pairs of one clip."""

    ms_per_pair: float
    from_converged_px: float
    residual: float


def main() -> None:
    """A table a clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--size", default="224x224", help="HEIGHTxWIDTH")
    parser.add_argument("--pairs", type=int, default=6, help="of consecutive frames, spread over a clip")
    options = parser.parse_args()
    if not hasattr(cv2, "optflow"):
        parser.error("this OpenCV has no DualTVL1: install opencv-contrib-python-headless in an environment of its own")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    height, width = (int(side) for side in options.size.split("x"))
    console = Console(width=None if sys.stdout.isatty() else 120)
    for clip in options.clips:
        pairs = read_pairs(clip, (height, width), options.pairs)
        console.print(table(f"{clip.name}, height {height} x width {width}, {len(pairs)} pairs", measure_all(pairs)))


def read_pairs(clip: Path, size: tuple[int, int], count: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Grey pairs of consecutive frames `[H, W]`."""
    video = clip.read_bytes()
    info = probe_video(video)
    starts = np.linspace(*SPAN, count) * info.duration_s
    pairs = []
    for start_s in starts:
        first = round(start_s * info.fps) / info.fps
        frames = torch.from_numpy(decode_frames(video, np.array([first, first + 1 / info.fps]), size))  # [2, H, W, 3]
        one, two = luma(frames).round().to(torch.uint8).numpy()
        pairs.append((one, two))
    return pairs


def methods() -> dict[str, Method]:
    """What is measured, by the name in the table; the converged reference first."""
    found = {"DualTVL1 converged": dual_tvl1(1e-4, outer=20, inner=60), "DualTVL1 (default)": dual_tvl1()}
    for config in (Tvl1Config(), Tvl1Config(warps=3, iterations=10), Tvl1Config(warps=2, iterations=10)):
        label = f"tvl1 {config.warps} x {config.iterations}" + (" (default)" if config == Tvl1Config() else "")
        found[label] = batched(Tvl1(config).flow)
    found["dis (default)"] = batched(Dis().flow)
    return found


def dual_tvl1(epsilon: float = 0.01, outer: int = 10, inner: int = 30) -> Method:
    """OpenCV's method, by default with its own settings."""
    method: Any = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]  # the contrib wheel's
    method.setEpsilon(epsilon)
    method.setOuterIterations(outer)
    method.setInnerIterations(inner)
    return lambda one, two: method.calc(one, two, None).transpose(2, 0, 1)


def batched(flow: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Method:
    """A method of ours on one pair."""
    return lambda one, two: flow(torch.from_numpy(one)[None], torch.from_numpy(two)[None])[0].numpy()


def measure_all(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> dict[str, Measured]:
    """Every method on every pair."""
    reference: list[Field] = []
    found: dict[str, Measured] = {}
    for name, method in methods().items():
        costs, fields = [], []
        for pair in pairs:
            started = time.thread_time()
            fields.append(method(*pair))
            costs.append(time.thread_time() - started)
        reference = reference or fields
        distances = [np.hypot(*(field - other)).mean() for field, other in zip(fields, reference, strict=True)]
        residuals = [left_over(*pair, field) for pair, field in zip(pairs, fields, strict=True)]
        found[name] = Measured(1e3 * float(np.median(costs)), float(np.mean(distances)), float(np.mean(residuals)))
    return found


def left_over(one: NDArray[np.uint8], two: NDArray[np.uint8], field: Field) -> float:
    """Mean absolute difference of the first frame and the second, warped back, where the flow stays inside."""
    height, width = one.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + field[0], y + field[1]
    warped = cv2.remap(two.astype(np.float32), x, y, cv2.INTER_LINEAR)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return float(np.abs(warped - one)[inside].mean())


def table(title: str, results: dict[str, Measured]) -> Table:
    """Cost, speed-up over DualTVL1 at its defaults, distance from the converged one, and residual."""
    out = Table("method", "ms/pair", "speed-up", "from converged, px", "residual, grey levels", title=title)
    default = results["DualTVL1 (default)"].ms_per_pair
    for name, one in results.items():
        speed_up = f"{default / one.ms_per_pair:.1f}"
        out.add_row(name, f"{one.ms_per_pair:.1f}", speed_up, f"{one.from_converged_px:.3f}", f"{one.residual:.2f}")
    return out


if __name__ == "__main__":
    main()
