"""Networks on one CUDA device: forward and training step in float32 and bf16, and what flow costs at inference.

    python -m benchmarks.networks_gpu

Every head at the size of `benchmarks.heads` (ActionFormer's for THUMOS14), every backbone on two clips. Times are medians,
by CUDA events, of ten calls after three that do not count; inputs are on the device already. Memory is the largest that
torch allocated in a call; what does not fit is said to. Exits 2 without a CUDA device.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.flow_gpu import say, seconds
from benchmarks.heads import PLAIN, PUBLISHED, contestant
from benchmarks.inference import MOTION, STUDENT, inference_parts, with_two_stream
from tadscale.config import choices
from tadscale.flow.motion import MotionConfig
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
    """Print the tables; 2 where there is no GPU."""
    if not torch.cuda.is_available():
        sys.stderr.write("benchmarks.networks_gpu needs a CUDA device. Found none.\n")
        return 2
    torch.manual_seed(0)
    say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    say(f"\n{'':60} {'dtype':9} {'forward ms':>11} {'step ms':>9} {'step MiB':>9}")
    for name in (PLAIN, *choices(HeadConfig)):
        report_head(name)
    for settings in (*(kind() for kind in choices(BackboneConfig).values()), *WIDER):
        assert isinstance(settings, BackboneSettings)
        report_backbone(settings)
    say(f"\ninference, clips of {CLIP_FRAMES} frames, batch 4, bf16: ms a clip")
    for size in (112, 224):
        report_inference(size)
    return 0


def report_head(name: str) -> None:
    """A head at its published size."""
    head = contestant(name, PUBLISHED, "cuda")
    size = f"{PUBLISHED.batch} x {PUBLISHED.in_dim} x {PUBLISHED.steps}"
    report(f"{name}, {size}", head.forward, head.step)


def report_backbone(settings: BackboneSettings) -> None:
    """A backbone on two clips."""
    backbone = settings.build(3).cuda()
    video = torch.randn(2, 3, CLIP_FRAMES, SIZE, SIZE, device="cuda")
    name = f"{settings.name}, {backbone.out_channels} channels, 2 x {CLIP_FRAMES} frames of {SIZE} px"

    def step() -> None:
        backbone.zero_grad(set_to_none=True)
        loss: Tensor = backbone(video).float().square().mean()
        loss.backward()

    report(name, partial(backbone, video), step)


def report(name: str, forward: Callable[[], object], step: Callable[[], object]) -> None:
    """A line for each dtype; a step is forward, loss and backward, without the optimiser."""
    for dtype in DTYPES:
        try:
            with torch.no_grad():
                forward_s = seconds(partial(under_autocast, dtype, forward))
            torch.cuda.reset_peak_memory_stats()
            step_s = seconds(partial(under_autocast, dtype, step))
            memory = torch.cuda.max_memory_allocated() / 2**20
            figures = f"{forward_s * 1e3:11.2f} {step_s * 1e3:9.2f} {memory:9.0f}"
        except torch.OutOfMemoryError:
            figures = "does not fit into the device's memory"
        say(f"{name:60} {str(dtype)[6:]:9} {figures}")


def under_autocast(dtype: torch.dtype, work: Callable[[], object]) -> object:
    """Do the work as training in this dtype does."""
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        return work()


def report_inference(size: int) -> None:
    """The student's RGB alone against two-stream's RGB, flow and flow detector."""
    config = ModelConfig(backbone=TsmResNet18Config(width=64, stride=4), dim=256)
    frames = torch.randint(0, 256, (4, CLIP_FRAMES, size, size, 3), dtype=torch.uint8, device="cuda")
    parts = inference_parts(config, MotionConfig(name="tvl1"), frames)
    costs = {}
    for name, part in parts.items():
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=name != MOTION):
            costs[name] = seconds(part) / len(frames)
    costs = with_two_stream(costs)
    for name, taken in costs.items():
        say(f"{size} px  {name:30} {taken * 1e3:9.2f}  {taken / costs[STUDENT]:6.2f} x the student")


if __name__ == "__main__":
    sys.exit(main())
