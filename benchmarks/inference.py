"""What a second of video costs at inference: the student, the baseline, and two-stream with its flow.

    python -m benchmarks.inference [JOB.yaml ...] [--set A.B=VALUE] [--repeats 5]

The networks and the motion of a job, untrained, on a window of noise of its size: from pictures to predictions, without
decoding and suppression, which all have alike. One thread, medians of interleaved repeats, in CPU seconds, so that other
processes on the machine disturb them little, in a process that allocates memory as training workers do. Two-stream is
baseline, motion, and the detector on it.
"""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable

import torch

from benchmarks.distillation import MALLOC
from benchmarks.heads import by_turns
from tadscale.flow.motion import MotionConfig, build_motion
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector
from tadscale.models.student import Student
from tadscale.runtime.jobs.job_file import load_job
from tadscale.runtime.stage.job import JobConfig

STUDENT, BASELINE, MOTION, MOTION_DETECTOR = "student", "baseline", "motion", "motion's detector"
TWO_STREAM = "two-stream (the last three)"
CLASSES = 20
JOBS = ("benchmarks/real/mocap.yaml", "benchmarks/real/ball.yaml")


def main(argv: list[str] | None = None) -> None:
    """Measure, and print a table for each job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", default=JOBS, metavar="JOB.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    os.environ |= MALLOC
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for path in arguments.jobs:
            job = load_job(path, arguments.set)
            window = job.data.window
            size = f"{window.fps:g} pictures of {window.width} x {window.height}, {job.motion.name}"
            sys.stdout.write(f"\n{path}: CPU ms for a second of video, {size}\n")
            costs = pool.apply(measure, (job, arguments.repeats))
            for name, seconds in costs.items():
                share = seconds / costs[STUDENT]
                sys.stdout.write(f"{name:30} {seconds * 1e3:9.1f}  {share:6.2f} x the student\n")


def measure(job: JobConfig, repeats: int) -> dict[str, float]:
    """CPU seconds for a second of a job's video, by part."""
    torch.set_num_threads(1)
    window = job.data.window
    frames = torch.randint(0, 256, (1, window.frames, window.height, window.width, 3), dtype=torch.uint8)
    parts = inference_parts(job.model, job.motion, frames)
    found = by_turns([torch.no_grad()(part) for part in parts.values()], repeats)
    of_a_second = (seconds * window.fps / window.frames for seconds in found)
    return with_two_stream(dict(zip(parts, of_a_second, strict=True)))


def inference_parts(model: ModelConfig, motion: MotionConfig, frames: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What inference is made of, ready to be called: the student first.

    Args:
        model: settings of all networks.
        motion: of the flow detector.
        frames: `[B, T, H, W, 3]` uint8, on the device to measure.
    """
    device = frames.device
    fields_of = build_motion(motion)
    student = Student(model, num_classes=CLASSES).to(device).eval()
    rgb = Detector(model, in_channels=3, num_classes=CLASSES).to(device).eval()
    flow = Detector(model, in_channels=fields_of.channels, num_classes=CLASSES).to(device).eval()
    mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=device)
    fields = fields_of(frames)
    return {
        STUDENT: lambda: student.detect(frames, mask),
        BASELINE: lambda: rgb.detect(frames, mask),
        MOTION: lambda: fields_of(frames),
        MOTION_DETECTOR: lambda: flow.detect(fields, mask),
    }


def with_two_stream(seconds: dict[str, float]) -> dict[str, float]:
    """The parts' costs, and last their sum without the student's."""
    return seconds | {TWO_STREAM: sum(cost for name, cost in seconds.items() if name != STUDENT)}


if __name__ == "__main__":
    main()
