"""Networks on one CUDA device: forward and training step in float32 and bf16, and what flow costs at inference.

    python -m benchmarks.networks_gpu

Times are medians, by CUDA events, of ten calls after three that do not count; inputs are on the device already. Memory is
the largest that torch allocated in a call. Exits 2 without a CUDA device.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.flow_gpu import say, seconds
from tadscale.flow.motion import MotionConfig, build_motion
from tadscale.models.backbones.base import BackboneSettings
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.backbones.tsm_resnet import TsmResNet18Config
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.heads.objective import Targets, build_objective
from tadscale.models.student import Student

DTYPES = (torch.float32, torch.bfloat16)
THUMOS14_HEAD = ActionFormerConfig(dim=512, stem_blocks=2, levels=6, heads=4, reach=9)
"""ActionFormer as published for THUMOS14, on features of 2048 channels and 2304 steps."""
BACKBONES: tuple[tuple[BackboneSettings, int], ...] = (
    (Small3dConfig(width=16), 112),
    (Small3dConfig(width=64), 112),
    (TsmResNet18Config(width=64), 112),
    (TsmResNet18Config(width=64), 224),
)
"""Settings, picture side in pixels."""
CLIP_FRAMES = 256
CLASSES = 20


def main() -> int:
    if not torch.cuda.is_available():
        sys.stderr.write("benchmarks.networks_gpu needs a CUDA device. Found none.\n")
        return 2
    torch.manual_seed(0)
    say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    say(f"\n{'':44} {'dtype':9} {'forward ms':>11} {'step ms':>9} {'step MiB':>9}")
    report_head()
    for settings, size in BACKBONES:
        report_backbone(settings, size)
    say(f"\ninference, clips of {CLIP_FRAMES} frames, batch 4, bf16: ms a clip")
    for size in (112, 224):
        report_inference(size)
    return 0


def report_head() -> None:
    """The ActionFormer head at its published size, batch 2."""
    head = THUMOS14_HEAD.build(in_dim=2048, num_classes=CLASSES, stride_frames=4).cuda()
    objective = build_objective(THUMOS14_HEAD, CLASSES)
    features, mask = torch.randn(2, 2048, 2304, device="cuda"), torch.ones(2, 2304, dtype=torch.bool, device="cuda")
    start = torch.rand(2, 15, 1, device="cuda") * 9000
    targets = Targets(
        segments_frames=torch.cat([start, start + 20 + 200 * torch.rand_like(start)], dim=2),
        labels=torch.randint(0, CLASSES, (2, 15), device="cuda"),
    )
    report(
        "actionformer head, 2 x 2048 x 2304",
        head,
        partial(head, features, mask),
        lambda out: objective.loss(out, targets).mean(),
    )


def report_backbone(settings: BackboneSettings, size: int) -> None:
    backbone = settings.build(3).cuda()
    video = torch.randn(2, 3, CLIP_FRAMES, size, size, device="cuda")
    report(
        f"{settings.name}, {backbone.out_channels} channels, 2 x {CLIP_FRAMES} frames of {size} px",
        backbone,
        partial(backbone, video),
        lambda out: out.float().square().mean(),
    )


def report(name: str, network: torch.nn.Module, forward: Callable, loss: Callable[..., Tensor]) -> None:
    """A line for each dtype."""
    for dtype in DTYPES:
        run = partial(under_autocast, dtype, forward)
        with torch.no_grad():
            forward_s = seconds(run)
        torch.cuda.reset_peak_memory_stats()
        step_s = seconds(partial(step, network, run, loss))
        memory = torch.cuda.max_memory_allocated() / 2**20
        say(f"{name:44} {str(dtype)[6:]:9} {forward_s * 1e3:11.2f} {step_s * 1e3:9.2f} {memory:9.0f}")


def under_autocast(dtype: torch.dtype, forward: Callable) -> object:
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        return forward()


def step(network: torch.nn.Module, forward: Callable, loss: Callable[..., Tensor]) -> None:
    """Forward and backward, without the optimiser."""
    network.zero_grad(set_to_none=True)
    loss(forward()).backward()


def report_inference(size: int) -> None:
    """The student's RGB alone against two-stream's RGB, flow and flow detector."""
    config = ModelConfig(backbone=TsmResNet18Config(width=64, stride=4), dim=256)
    student = Student(config, num_classes=CLASSES).cuda().eval()
    rgb = Detector(config, in_channels=3, num_classes=CLASSES).cuda().eval()
    flow = Detector(config, in_channels=2, num_classes=CLASSES).cuda().eval()
    motion = build_motion(MotionConfig(name="tvl1"))
    frames = torch.randint(0, 256, (4, CLIP_FRAMES, size, size, 3), dtype=torch.uint8, device="cuda")
    mask = torch.ones(4, CLIP_FRAMES, dtype=torch.bool, device="cuda")
    fields = motion(frames)

    @torch.no_grad()
    def timed(work: Callable[[], object], dtype: torch.dtype = torch.bfloat16) -> float:
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype != torch.float32):
            return seconds(work) * 1e3 / 4

    rows = {
        "student, RGB alone": timed(lambda: student.detect(frames, mask)),
        "baseline, RGB alone": timed(lambda: rgb.detect(frames, mask)),
        "TV-L1 flow": timed(lambda: motion(frames), torch.float32),
        "flow detector": timed(lambda: flow.detect(fields, mask)),
    }
    rows["two-stream (the last three)"] = sum(list(rows.values())[1:])
    for name, milliseconds in rows.items():
        share = milliseconds / rows["student, RGB alone"]
        say(f"{size} px  {name:30} {milliseconds:9.2f}  {share:6.2f} x the student")


if __name__ == "__main__":
    sys.exit(main())
