"""Networks on one CUDA device: forward and training step in float32 and bf16, and what flow costs at inference.

    python -m benchmarks.networks_gpu

Every head at the size of `benchmarks.heads` (ActionFormer's for THUMOS14), every backbone on two clips. Times are medians,
by CUDA events, of ten calls after three that do not count; inputs are on the device already. Memory is the largest that
torch allocated in a call; what does not fit is said to. Exits 2 without a CUDA device.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.flow_gpu import say, seconds
from benchmarks.heads import PLAIN, PUBLISHED, contestant
from benchmarks.inference import MOTION, STUDENT, inference_parts, with_two_stream
from tadscale.config import choices
from tadscale.engine.autocast import UnderAutocast
from tadscale.flow.motion import MotionConfig
from tadscale.flow.tvl1.estimator import fastest_solver
from tadscale.flow.tvl1.triton_solver import TritonTvl1Solver
from tadscale.models.backbones import BackboneConfig
from tadscale.models.backbones.base import BackboneSettings
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.backbones.tsm_resnet import TsmResNet18Config
from tadscale.models.config import ModelConfig
from tadscale.models.heads import HeadConfig

DTYPES = (torch.float32, torch.bfloat16)
SIZE = 112  # pixels a side; the recipes' is the same
WIDER = (Small3dConfig(width=64), TsmResNet18Config(width=64))
"""Settings beside every backbone's defaults."""
CLIP_FRAMES = 256


def main() -> int:
    """Print the tables; 2 where there is no GPU, 1 where something could not be measured."""
    if not torch.cuda.is_available():
        sys.stderr.write("benchmarks.networks_gpu needs a CUDA device. Found none.\n")
        return 2
    torch.manual_seed(0)
    say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    say(f"\ninference, clips of {CLIP_FRAMES} frames, batch 4, bf16: ms a clip")
    ends = [tried(f"{size} px", partial(report_inference, size)) for size in (112, 224)]
    say(f"\n{'':60} {'dtype':9} {'forward ms':>11} {'step ms':>9} {'step MiB':>9}")
    rows: list[tuple[str, Callable[[torch.dtype], Work]]] = [
        (f"{name}, {PUBLISHED.batch} x {PUBLISHED.in_dim} x {PUBLISHED.steps}", partial(head_work, name))
        for name in (PLAIN, *choices(HeadConfig))
    ]
    for settings in (*(kind() for kind in choices(BackboneConfig).values()), *WIDER):
        assert isinstance(settings, BackboneSettings)
        width = getattr(settings, "width", "as published")
        name = f"{settings.name}, {width}, 2 x {CLIP_FRAMES} frames of {SIZE} px"
        rows.append((name, partial(backbone_work, settings)))
    for name, work in rows:
        ends += [tried(name, partial(report, name, dtype, work)) for dtype in DTYPES]
    return int(not all(ends))


def tried(name: str, report_row: Callable[[], None]) -> bool:
    """Whether a row could be measured: one that fails is named, and takes none of the others with it."""
    try:
        report_row()
    except Exception as error:
        say(f"{name:60} failed: {type(error).__name__}: {error}")
        return False
    return True


class Work(NamedTuple):
    """What is timed of a network; a step is forward, loss and backward, without the optimiser."""

    forward: Callable[[], object]
    step: Callable[[], object]


def head_work(name: str, dtype: torch.dtype) -> Work:
    """A head at its published size."""
    head = contestant(name, PUBLISHED, "cuda", dtype)
    return Work(head.forward, head.step)


def backbone_work(settings: BackboneSettings, dtype: torch.dtype) -> Work:
    """A backbone on two clips."""
    backbone = settings.build(3).cuda()
    forward = partial(UnderAutocast(backbone, dtype), torch.randn(2, 3, CLIP_FRAMES, SIZE, SIZE, device="cuda"))

    def step() -> None:
        backbone.zero_grad(set_to_none=True)
        loss: Tensor = forward().square().mean()
        loss.backward()

    return Work(forward, step)


def report(name: str, dtype: torch.dtype, work_of: Callable[[torch.dtype], Work]) -> None:
    """A line of the table; the dtype is that of the network's arithmetic, as in training."""
    try:
        work = work_of(dtype)
        with torch.no_grad():
            forward_s = seconds(work.forward)
        torch.cuda.reset_peak_memory_stats()
        step_s = seconds(work.step)
        memory = torch.cuda.max_memory_allocated() / 2**20
        figures = f"{forward_s * 1e3:11.2f} {step_s * 1e3:9.2f} {memory:9.0f}"
    except torch.OutOfMemoryError:
        figures = "does not fit into the device's memory"
    say(f"{name:60} {str(dtype)[6:]:9} {figures}")


def report_inference(size: int) -> None:
    """The student's RGB alone against two-stream's RGB, flow and flow detector.

    Raises:
        RuntimeError: flow would run without its kernels here, 15 times slower.
    """
    config = ModelConfig(backbone=TsmResNet18Config(width=64, stride=4), dim=256)
    frames = torch.randint(0, 256, (4, CLIP_FRAMES, size, size, 3), dtype=torch.uint8, device="cuda")
    check_kernels(frames)
    parts = inference_parts(config, MotionConfig(name="tvl1"), frames)
    costs = {}
    for name, part in parts.items():
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=name != MOTION):
            costs[name] = seconds(part) / len(frames)
    costs = with_two_stream(costs)
    for name, taken in costs.items():
        say(f"{size} px  {name:30} {taken * 1e3:9.2f}  {taken / costs[STUDENT]:6.2f} x the student")


def check_kernels(frames: Tensor) -> None:
    """Raise a RuntimeError where TV-L1 on these frames' device would run in torch's operations, for want of Triton or of a C
    compiler: its figures would be taken for the kernels'."""
    solver = fastest_solver(torch.empty(0, device=frames.device))
    if frames.is_cuda and solver is not TritonTvl1Solver:
        raise RuntimeError(f"TV-L1 would run on {solver.__name__} here: install triton and a C compiler (gcc)")


if __name__ == "__main__":
    sys.exit(main())
