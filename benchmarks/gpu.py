"""All that is measured and checked on one CUDA device, within six minutes.

    python -m benchmarks.gpu [--minutes 6]

Runs, in this order, each for no longer than its share and what is left: the tests that need a CUDA device,
`benchmarks.flow_gpu`, `benchmarks.networks_gpu`, `benchmarks.motion_overlap`. Prints what they print, and at last a line for
each: how it ended, and after how many seconds. Exits 2 without a CUDA device, 1 if a part failed or had no time left.

Beside torch and Triton it needs a C compiler and pytest, numpy, scipy, pydantic, rich, PyYAML, safetensors, fsspec, av and
opencv-python-headless; the flow alone (`benchmarks.flow_gpu`) needs neither pydantic nor av.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import torch

from benchmarks.flow_gpu import say

CUDA_TESTS = ("tests/flow/tvl1/test_triton_solver.py", "tests/runtime/pipeline/test_upload.py")


class Part(NamedTuple):
    """A program of its own, so that none finds the device's memory taken by another."""

    name: str
    arguments: tuple[str, ...]
    """Of the interpreter."""
    most_s: float = 120.0
    """For which it may run, so that one that hangs leaves the others their time."""


PARTS = (
    Part("tests on CUDA", ("-m", "pytest", "-k", "cuda or on_a_gpu", *CUDA_TESTS), 80),
    Part("TV-L1", ("-m", "benchmarks.flow_gpu", "--sizes", "112x112", "224x224"), 80),
    Part("networks", ("-m", "benchmarks.networks_gpu"), 150),
    Part("motion, overlap on and off", ("-m", "benchmarks.motion_overlap", "--device", "cuda"), 50),
)


def main(argv: list[str] | None = None) -> int:
    """Run every part within the time; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6.0, help="for all parts together")
    arguments = parser.parse_args(argv)
    if not torch.cuda.is_available():
        sys.stderr.write("benchmarks.gpu needs a CUDA device. Found none.\n")
        return 2
    return run_parts(PARTS, arguments.minutes * 60)


def run_parts(parts: tuple[Part, ...], budget_s: float) -> int:
    """Run them one after the other; 0 if all ended well in time."""
    deadline, ends = time.monotonic() + budget_s, []
    for part in parts:
        began = time.monotonic()
        say(f"\n== {part.name}")
        ends.append((part.name, _run(part, min(part.most_s, deadline - began)), time.monotonic() - began))
    say("")
    for name, end, took_s in ends:
        say(f"{name:30} {end:20} {took_s:6.0f} s")
    return int(any(end != "ok" for _, end, _ in ends))


def _run(part: Part, left_s: float) -> str:
    if left_s <= 0:
        return "no time left"
    process = subprocess.Popen([sys.executable, *part.arguments], start_new_session=True)
    try:
        code = process.wait(left_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with what it has started: it would hold the device
        process.wait()
        return "cut off"
    return "ok" if code == 0 else f"failed ({code})"


if __name__ == "__main__":
    sys.exit(main())
