"""The motion actor with its next packet copied while one is computed, and without.

    python -m benchmarks.motion_overlap [--device cuda] [--size 224] [--packets 40]

An actor of the pipeline has two packets in hand on a GPU: two threads call one `MotionTeacher`, which computes one at a time
and copies beside that, and remembers as much of what it made as the job says. Here packets of the same pictures, each time
as windows that were not seen before, go through one thread and through two, without Ray, by turns; windows a second of each,
and the ratio. What was made comes back to the CPU while nothing else is computed: 12.8 MB of flow for 9.6 MB of frames.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from benchmarks.networks_gpu import check_kernels
from tadscale.runtime.jobs.job_file import load_job
from tadscale.runtime.pipeline.motion_teacher import MotionTeacher
from tadscale.runtime.pipeline.packets import Columns
from tadscale.runtime.stage.spec import stage_of

FRAMES = 64
ROUNDS = 3


def main(argv: list[str] | None = None) -> None:
    """Time the motion teacher with and without overlap, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--packets", type=int, default=40, help=f"windows of {FRAMES} frames, one a packet")
    arguments = parser.parse_args(argv)
    window = f"{{frames: {FRAMES}, fps: 10, height: {arguments.size}, width: {arguments.size}}}"
    job = load_job("jobs/teacher.yaml", [f"data.window={window}"])
    memo_bytes = job.cluster.motion_memo_mib << 20
    motion = MotionTeacher(stage_of(job, "teacher"), arguments.device, threads=1, memo_bytes=memo_bytes)
    numbers = itertools.count()
    packets = [packet(index, arguments.size) for index in range(arguments.packets)]
    check_kernels(torch.empty(0, device=arguments.device))
    motion(renumbered(packets[0], numbers))  # compiles the kernels
    rates = dict.fromkeys((1, 2), 0.0)
    for _ in range(ROUNDS):
        for threads in rates:
            fresh = [renumbered(packet, numbers) for packet in packets]
            rates[threads] = max(rates[threads], windows_per_s(motion, fresh, threads))
    sys.stdout.write(
        f"{arguments.device}, windows of {FRAMES} x {arguments.size} px: {rates[1]:.1f} windows/s one packet at a time, "
        f"{rates[2]:.1f} with the next one copied meanwhile, ratio {rates[2] / rates[1]:.2f} (best of {ROUNDS} each)\n"
    )


def packet(index: int, size: int) -> Columns:
    """One window of noise that drifts, as the fetching stage sends it."""
    random = np.random.default_rng(index)
    still = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
    frames = np.stack([np.roll(still, shift, axis=1) for shift in range(FRAMES)])
    return {
        "window": np.array([index]),
        "valid": np.ones(1, bool),
        "mask": np.ones((1, FRAMES), bool),
        "frames": frames[None],
    }


def renumbered(packet: Columns, numbers: Iterator[int]) -> Columns:
    """The same pictures as a window that nothing is remembered of."""
    return {**packet, "window": np.array([next(numbers)])}


def windows_per_s(motion: MotionTeacher, packets: list[Columns], threads: int) -> float:
    """How fast the packets go through, in windows a second."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(motion, packets))
    return len(packets) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
