"""One rank of `test_students_on_two_ranks`: trains tiny students whose distillation is held to a share of ground truth.

`python student_process.py RANK WORLD_SIZE PORT FOLDER` trains `STEPS` steps by each lesson with each preset, and with each
head by the first lesson, and leaves what rank 0 saw.
"""

import dataclasses
import json
from pathlib import Path

import torch

from tadscale.engine.batch import WindowBatch
from tadscale.engine.engine import Engine
from tadscale.engine.optim import OptimConfig
from tadscale.engine.steps import AppearanceTeacherConfig, DistillConfig, Lesson, StudentConfig, step_function
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector, DetectorOutput
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.heads.objective import Targets, build_objective
from tadscale.models.student import Student
from tadscale.runtime.cluster.deepspeed_preset import ZERO_1
from tests.models.heads.test_conformance import HEADS
from tests.models.heads.test_conformance import TINY as TINY_HEADS
from tests.runtime.training.two_ranks import take_part

PRESETS = {"zero1": ZERO_1} | {f"zero{stage}": {"zero_optimization": {"stage": stage}} for stage in (0, 2)}
STEPS, GLOBAL_BATCH = 4, 2
MODEL = ModelConfig(backbone=Small3dConfig(width=4), dim=8, head=ActionFormerConfig(dim=8, levels=2, heads=2))
OF_HEADS = {name: MODEL.model_copy(update={"head": kind(**TINY_HEADS[name])}) for name, kind in HEADS.items()}
"""The same network with every head."""
CONFIG = OptimConfig(lr=0.01, clip_norm=0.5, global_batch=GLOBAL_BATCH)
STUDENT = StudentConfig(distill=DistillConfig(feature_weight=8.0, balance="share", share=0.5, backbone_delay=0.0))
DELAYED = STUDENT.distill.model_copy(update={"backbone_delay": 0.5})
STUDENTS = {
    "motion": STUDENT,
    "motion, in the backbone later": STUDENT.model_copy(update={"distill": DELAYED}),
    "motion and appearance": STUDENT.model_copy(update={"appearance_teacher": AppearanceTeacherConfig()}),
}
"""By their teachers, and when those reach the backbone."""


def global_batch(step: int, model: ModelConfig) -> WindowBatch:
    """Two windows of noise, and what untrained teachers say of them."""
    draw = torch.Generator().manual_seed(step)
    mask = torch.ones(GLOBAL_BATCH, 16, dtype=torch.bool)
    torch.manual_seed(7)
    teacher, rgb = (Detector(model, in_channels=channels, num_classes=2).eval() for channels in (2, 3))
    with torch.no_grad():
        said = teacher(torch.rand(GLOBAL_BATCH, 2, 16, 16, 16, generator=draw) * 2 - 1, mask)
        frames = torch.randint(0, 256, (GLOBAL_BATCH, 16, 16, 16, 3), generator=draw, dtype=torch.uint8)
        of_frames = rgb(frames, mask)
    return WindowBatch(
        positions=torch.arange(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH),
        valid=torch.ones(GLOBAL_BATCH, dtype=torch.bool),
        labelled=torch.ones(GLOBAL_BATCH, dtype=torch.bool),
        mask=mask,
        targets=Targets(segments_frames=torch.tensor([[[2.0, 8.0]], [[6.0, 14.0]]]), labels=torch.tensor([[0], [1]])),
        frames=frames,
        teacher=said,
        appearance_teacher=of_frames,
    )


def share_of(batch: WindowBatch, rank: int, world_size: int) -> WindowBatch:
    """The windows of one rank."""

    def part(value: torch.Tensor) -> torch.Tensor:
        return value.chunk(world_size)[rank]

    def of_teacher(output: DetectorOutput | None) -> DetectorOutput:
        assert output is not None
        return DetectorOutput(part(output.feature), {name: part(value) for name, value in output.predictions.items()})

    said, of_frames = of_teacher(batch.teacher), of_teacher(batch.appearance_teacher)
    targets = Targets(segments_frames=part(batch.targets.segments_frames), labels=part(batch.targets.labels))
    tensors = {name: part(getattr(batch, name)) for name in ("positions", "valid", "labelled", "mask", "frames")}
    return dataclasses.replace(batch, **tensors, targets=targets, teacher=said, appearance_teacher=of_frames)


def student(model: ModelConfig = MODEL) -> Student:
    """Always the same."""
    torch.manual_seed(0)
    return Student(model, num_classes=2)


def run(
    engine: Engine, taught_by: str = "motion", model: ModelConfig = MODEL, *, rank: int = 0, world_size: int = 1
) -> list[list[float]]:
    """Loss and gradient norm of every step."""
    lesson = Lesson(
        objective=build_objective(model.head, 2),
        student=STUDENTS[taught_by],
        global_batch=GLOBAL_BATCH,
        total_steps=STEPS,
    )
    step, seen = step_function("decomposed", lesson), []
    for index in range(STEPS):
        engine.set_lr(CONFIG.lr)
        parts = step(engine.model, share_of(global_batch(index, model), rank, world_size))
        engine.backward(parts["loss"])
        norm = engine.step()
        seen.append([float(engine.mean(parts["loss"].detach())), norm])
    return seen


def main(rank: int, world_size: int, folder: str) -> None:
    from tadscale.runtime.training.deepspeed_engine import DeepSpeedEngine

    def trained(preset: str, taught_by: str = "motion", model: ModelConfig = MODEL) -> list[list[float]]:
        engine = DeepSpeedEngine(student(model), CONFIG, micro_batch=1, preset=PRESETS[preset], device="cpu")
        return run(engine, taught_by, model, rank=rank, world_size=world_size)

    seen = {
        "lessons": {taught_by: {name: trained(name, taught_by) for name in PRESETS} for taught_by in STUDENTS},
        "heads": {name: trained("zero1", model=model) for name, model in OF_HEADS.items()},
    }
    if rank == 0:
        Path(folder, "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    take_part(main)
