"""TV-L1 and DIS on real video, against OpenCV's DualTVL1 run to convergence, on one CPU thread.

    python -m benchmarks.flow_clips CLIP... [--size 224x224] [--pairs 6]

Needs OpenCV's contrib wheel (`pip install opencv-contrib-python-headless`, in an environment of its own). There is no true
flow of real video. Figures that stand in for it, each a mean over the pairs: the distance from converged DualTVL1, in
pixels; what of the brightness difference is left when the second frame is warped back, in grey levels (a flow that fits
noise lowers it, too); and the true error, in pixels, where the pair's first picture is moved by four known motions, with
noise of its own in both frames (see flow_scenes.py). Cost is the CPU time of the one thread: for DualTVL1, whose cost
depends on the pictures, the mean over the pairs, for ours a pair's share of a batch. "Converged" is DualTVL1 with
four times the iterations and a hundredth of its stopping threshold; a pair of 224 px takes it half a minute.
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

from benchmarks.flow_scenes import PICTURE_BORDER_PX, picture_scenes
from tadscale.data.decode import decode_frames, probe_video
from tadscale.flow.dis import Dis
from tadscale.flow.estimator import luma
from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.estimator import Tvl1

Frames = NDArray[np.uint8]  # [N, H, W] grey
Method = Callable[[Frames, Frames], NDArray[np.float32]]  # -> [N, 2, H, W]
BATCH = 32  # pairs that are timed together, copies of the clip's: a window of video has more
SPAN = (0.1, 0.9)  # of a clip's length: where pairs are taken
NOISE = 2.0  # grey levels, of the pictures that are moved


class Pair(NamedTuple):
    """Two consecutive frames of a clip, and a picture to be moved."""

    first: NDArray[np.uint8]  # [H, W] grey
    second: NDArray[np.uint8]  # [H, W]
    picture: NDArray[np.uint8]  # [H + 2 b, W + 2 b] the first frame, larger by a border


class Measured(NamedTuple):
    """One method on the pairs of one clip."""

    ms_per_pair: float
    from_converged_px: float
    residual: float
    error_px: float | None  # of known motions; None where not measured


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


def read_pairs(clip: Path, size: tuple[int, int], count: int) -> list[Pair]:
    """Pairs of consecutive frames."""
    video = clip.read_bytes()
    info = probe_video(video)
    starts = np.linspace(*SPAN, count) * info.duration_s
    larger = size[0] + 2 * PICTURE_BORDER_PX, size[1] + 2 * PICTURE_BORDER_PX
    pairs = []
    for start_s in starts:
        first = round(start_s * info.fps) / info.fps
        one, two = grey(decode_frames(video, np.array([first, first + 1 / info.fps]), size))
        [picture] = grey(decode_frames(video, np.array([first]), larger))
        pairs.append(Pair(one, two, picture))
    return pairs


def grey(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`[N, H, W, 3]` to `[N, H, W]`."""
    return luma(torch.from_numpy(frames)).round().to(torch.uint8).numpy()


def methods() -> dict[str, Method]:
    """What is measured, by the name in the table; the converged reference first."""
    found = {"DualTVL1 converged": dual_tvl1(1e-4, outer=20, inner=60), "DualTVL1 (default)": dual_tvl1()}
    for config in (Tvl1Config(), Tvl1Config(warps=3, iterations=10), Tvl1Config(warps=2, iterations=10)):
        label = f"tvl1 {config.warps} x {config.iterations}" + (" (default)" if config == Tvl1Config() else "")
        found[label] = batched(Tvl1(config).flow)
    found["dis (default)"] = batched(Dis().flow)
    return found


def dual_tvl1(epsilon: float = 0.01, outer: int = 10, inner: int = 30) -> Method:
    """OpenCV's method, by default with its own settings, pair by pair."""
    method: Any = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]  # the contrib wheel's
    method.setEpsilon(epsilon)
    method.setOuterIterations(outer)
    method.setInnerIterations(inner)

    def flow(first: Frames, second: Frames) -> NDArray[np.float32]:
        return np.stack([method.calc(*pair, None).transpose(2, 0, 1) for pair in zip(first, second, strict=True)])

    return flow


def batched(flow: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Method:
    """A method of ours."""
    return lambda first, second: flow(torch.from_numpy(first), torch.from_numpy(second)).numpy()


def measure_all(pairs: list[Pair]) -> dict[str, Measured]:
    """Every method on every pair."""
    first, second = np.stack([pair.first for pair in pairs]), np.stack([pair.second for pair in pairs])
    reference: NDArray[np.float32] | None = None
    found: dict[str, Measured] = {}
    for name, method in methods().items():
        started = time.thread_time()
        fields = method(first, second)
        cost = (time.thread_time() - started) / len(pairs)
        if not name.startswith("DualTVL1"):
            cost = seconds_a_pair(method, first, second)
        # Of the converged one it would take an hour.
        error_px = None if reference is None else known_error(method, pairs)
        reference = fields if reference is None else reference
        distance = float(np.hypot(*np.moveaxis(fields - reference, 1, 0)).mean())
        residual = float(np.mean([left_over(pair, field) for pair, field in zip(pairs, fields, strict=True)]))
        found[name] = Measured(1e3 * cost, distance, residual, error_px)
    return found


def seconds_a_pair(method: Method, first: Frames, second: Frames) -> float:
    """In a batch, best of three."""
    many = [np.resize(frames, (BATCH, *frames.shape[1:])) for frames in (first, second)]
    costs = []
    for _ in range(3):
        started = time.thread_time()
        method(*many)
        costs.append((time.thread_time() - started) / BATCH)
    return min(costs)


def known_error(method: Method, pairs: list[Pair]) -> float:
    """Mean end-point error on the pairs' pictures, moved."""
    scenes = [scene for pair in pairs for scene in picture_scenes(pair.picture, NOISE)]
    fields = method(np.stack([scene.first for scene in scenes]), np.stack([scene.second for scene in scenes]))
    return float(np.mean([scene.end_point_error(field) for scene, field in zip(scenes, fields, strict=True)]))


def left_over(pair: Pair, field: NDArray[np.float32]) -> float:
    """Mean absolute difference of the first frame and the second, warped back, where the flow stays inside."""
    height, width = pair.first.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + field[0], y + field[1]
    warped = cv2.remap(pair.second.astype(np.float32), x, y, cv2.INTER_LINEAR)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return float(np.abs(warped - pair.first)[inside].mean())


def table(title: str, results: dict[str, Measured]) -> Table:
    """Cost, speed-up over DualTVL1 at its defaults, distance from the converged one, residual, error of known motions."""
    out = Table("method", "ms/pair", "speed-up", "from converged, px", "residual", "known motion, px", title=title)
    default = results["DualTVL1 (default)"].ms_per_pair
    for name, one in results.items():
        speed_up = f"{default / one.ms_per_pair:.1f}"
        error = "" if one.error_px is None else f"{one.error_px:.3f}"
        out.add_row(
            name, f"{one.ms_per_pair:.1f}", speed_up, f"{one.from_converged_px:.3f}", f"{one.residual:.2f}", error
        )
    return out


if __name__ == "__main__":
    main()
