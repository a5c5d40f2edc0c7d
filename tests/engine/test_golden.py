"""A golden loss curve: 30 steps of decomposed distillation on sprites, from drawing to loss.

It changes when drawing, encoding, decoding, flow, a network, a loss or the optimiser changes what they compute. If the
change is meant, run `python -m tests.engine.test_golden` and commit the new curve with the reason.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tadscale.data.decode import decode_frames
from tadscale.data.sprites import SpritesConfig, class_names, draw_video
from tadscale.engine.batch import WindowBatch
from tadscale.engine.ema import Ema
from tadscale.engine.engine import LocalEngine
from tadscale.engine.loop import Expected, train
from tadscale.engine.optim import OptimConfig
from tadscale.engine.steps import DistillConfig, Lesson, StudentConfig, step_function
from tadscale.flow.motion import MotionConfig, build_motion
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector
from tadscale.models.heads.objective import Targets, build_objective
from tadscale.models.student import Student

GOLDEN = Path(__file__).with_name("golden_curve.json")
STEPS, VIDEOS = 30, 3
SPRITES = SpritesConfig(size=32, duration_s=8.0, train=VIDEOS)
NETWORK = ModelConfig(backbone=Small3dConfig(width=4), dim=16)
OPTIM = OptimConfig(epochs=10, global_batch=VIDEOS, lr=1e-3)
PARTS = ("loss", "joint", "appearance", "feature", "prediction")


def _batch() -> WindowBatch:
    """Three drawn, encoded, decoded videos, with what an untrained teacher says of their flow."""
    samples = [draw_video(SPRITES, "train", index) for index in range(VIDEOS)]
    times_s = np.arange(80) / 10
    frames = torch.from_numpy(np.stack([decode_frames(sample.video, times_s, (32, 32)) for sample in samples]))
    names, mask = class_names(SPRITES), torch.ones(VIDEOS, 80, dtype=torch.bool)
    segments, labels = torch.zeros(VIDEOS, 6, 2), torch.full((VIDEOS, 6), -1)
    for video, sample in enumerate(samples):
        for place, entry in enumerate(sample.annotation["annotations"]):
            segments[video, place] = torch.tensor(entry["segment"]) * 10
            labels[video, place] = names.index(entry["label"])
    teacher = Detector(NETWORK, in_channels=2, num_classes=len(names)).eval()
    with torch.no_grad():
        output = teacher(build_motion(MotionConfig(name="dis"))(frames), mask)
    return WindowBatch(
        positions=torch.arange(VIDEOS),
        valid=torch.ones(VIDEOS, dtype=torch.bool),
        labelled=torch.ones(VIDEOS, dtype=torch.bool),
        mask=mask,
        targets=Targets(segments_frames=segments, labels=labels),
        frames=frames,
        teacher=output,
    )


def run_curve() -> dict[str, list[float]]:
    """Train for 30 steps; every part of the loss at every step."""
    torch.manual_seed(0)
    batch = _batch()
    engine = LocalEngine(Student(NETWORK, num_classes=len(class_names(SPRITES))), OPTIM)
    curve: dict[str, list[float]] = {part: [] for part in PARTS}

    class Keep:
        def after_step(self, record, state) -> bool:
            for part in PARTS:
                curve[part].append(record.losses[part])
            return False

    expected = Expected(
        total_steps=STEPS, steps_per_epoch=3, global_batch=VIDEOS, positions=lambda step: torch.arange(VIDEOS)
    )
    objective = build_objective(NETWORK.head, len(class_names(SPRITES)))
    student = StudentConfig(distill=DistillConfig(feature_weight=8.0, balance="fixed"))
    step = step_function("decomposed", Lesson(objective=objective, student=student, global_batch=VIDEOS))
    batches = (batch for _ in range(STEPS))
    train(engine, step, batches, expected, OPTIM, ema=Ema(engine.model, 0.9), callbacks=[Keep()])
    return curve


@pytest.fixture
def one_thread():
    """Sums depend on how many threads share them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_curve_is_the_golden_one_and_twice_the_same(one_thread):
    golden, first, second = json.loads(GOLDEN.read_text()), run_curve(), run_curve()
    assert first == second  # bit for bit on one machine
    for part in PARTS:  # other processors round differently
        np.testing.assert_allclose(first[part], golden[part], rtol=2e-3, atol=1e-4, err_msg=part)


def test_the_golden_curve_learns():
    golden = json.loads(GOLDEN.read_text())
    assert len(golden["loss"]) == STEPS
    assert golden["loss"][-1] < 0.7 * golden["loss"][0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.write_text(
        json.dumps({part: [round(value, 6) for value in values] for part, values in run_curve().items()}, indent=1)
    )
