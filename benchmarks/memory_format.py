"""What it is worth to MobileNet's depth-wise convolutions that a pixel's channels lie side by side.

    python -m benchmarks.memory_format [--frames 160] [--size 80]

`tsm_mobilenet_v2`, forward and backward over two windows, on one thread: with the channels apart (torch's default), side by
side at the entry alone (temporal shift undoes it), and as the backbone has it. CPU seconds, medians of interleaved repeats,
in a process that allocates memory as training workers do.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from unittest import mock

import torch
from torch import Tensor

from benchmarks.distillation import MALLOC
from tadscale.models.backbones import tsm_mobilenet_v2
from tadscale.models.backbones.tsm_mobilenet_v2 import TsmMobileNetV2Config

CHANNELS = 3
AS_IT_IS = tsm_mobilenet_v2._channels_last


def _apart(x: Tensor) -> Tensor:
    return x


def _at_the_entry(x: Tensor) -> Tensor:
    return AS_IT_IS(x) if x.shape[1] == CHANNELS else x


LAYOUTS = {"channels apart": _apart, "side by side at the entry": _at_the_entry, "side by side": AS_IT_IS}


def main(argv: list[str] | None = None) -> None:
    """Measure, and print a line for each layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--size", type=int, default=80, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    os.environ |= MALLOC
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds = pool.apply(measure, (arguments.frames, arguments.size, arguments.repeats))
    default = statistics.median(seconds["channels apart"])
    for name, found in seconds.items():
        median = statistics.median(found)
        sys.stdout.write(f"{name:26} {median:6.2f} s  {default / median:5.2f} x\n")


def measure(frames: int, size: int, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each repeat, by layout."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = TsmMobileNetV2Config().build(CHANNELS)
    video = torch.rand(2, CHANNELS, frames, size, size)
    seconds: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for _ in range(repeats):
        for name, layout in LAYOUTS.items():
            with mock.patch.object(tsm_mobilenet_v2, "_channels_last", layout):
                start = time.thread_time()
                backbone.maps(video).square().mean().backward()
                seconds[name].append(time.thread_time() - start)
    return seconds


if __name__ == "__main__":
    main()
