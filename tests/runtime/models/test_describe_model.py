"""The card of a trained model answers what a consumer asks, from the job and its data."""

from pathlib import Path

import numpy as np
import pytest

from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.windows import WindowConfig
from tadscale.metrics import MeanAveragePrecision
from tadscale.network import Mode, NetworkSpec
from tadscale.report.model_card import model_card
from tadscale.runtime.models.describe_model import describe_model
from tadscale.runtime.stage.choice import last_weights
from tadscale.runtime.stage.job import JobConfig
from tests.runtime.conftest import result_of
from tests.serving.tiny import SPEC, clip


@pytest.fixture
def job(tmp_path: Path) -> JobConfig:
    def video(name: str, subset: str) -> VideoSample:
        annotations = [{"label": "run", "segment": [0.1, 0.9]}, {"label": "jump", "segment": [1.0, 1.5]}]
        return VideoSample(name, clip(3.6), {"subset": subset, "annotations": annotations})

    samples = [video("a", "train"), video("b", "train"), video("c", "test")]
    write_shards(samples, str(tmp_path / "data"), classes=SPEC.classes)
    data = {"url": str(tmp_path / "data"), "window": SPEC.window.model_dump()}
    return JobConfig.model_validate(
        {"kind": "distill", "name": "tiny", "storage": str(tmp_path / "runs"), "data": data}
    )


def card(job: JobConfig, network: NetworkSpec) -> str:
    stage = result_of("", steps=7)
    score = MeanAveragePrecision(
        tiou=(0.3, 0.5), labels=SPEC.classes, per_class=np.full((2, 2), 0.5), instances=np.array([1, 1])
    )
    return model_card(describe_model(job, last_weights(stage), network, {network.mode: score}, "tiny-detector"))


def test_it_says_what_a_consumer_asks(job: JobConfig) -> None:
    text = card(job, SPEC)
    for part in (
        'mlflow.pyfunc.load_model("models:/tiny-detector@champion")',
        "subset train | 2 videos, 0.00 hours, 4 segments |",
        "subset test | 1 videos, 0.00 hours, 2 segments |",
        "| length | 16 frames, 1.6 s |",
        "| sampled | 10 frames a second, by time of display |",
        "merged by Soft-NMS (sigma 0.5) class by class",
        "under Apache-2.0",
        "not calibrated",
        "| decomposed | 50.00 | 50.00 | 50.00 |",
    ):
        assert part in text, part
    for section in ("How to load it", "Intended use", "Limits", "Data", "Windows", "Evaluation", "Licence", "Classes"):
        assert f"## {section}\n" in text
    assert "Not stated." not in text


@pytest.mark.parametrize(("mode", "key"), [("teacher", "teacher.url"), ("pretrain", "model.backbone.weights")])
def test_what_no_consumer_loads_is_taken_by_a_job(job: JobConfig, mode: Mode, key: str) -> None:
    text = card(job, SPEC.model_copy(update={"mode": mode}))
    assert f'{key}="models:/tiny-detector@champion"' in text and "load_model" not in text


def test_features_are_told_from_pictures(job: JobConfig) -> None:
    rows = {"channels": 4, "stride": 2, "offset": 0.0, "video_fps": 20.0}
    window = WindowConfig.model_validate(SPEC.window.model_dump() | {"features": rows})
    text = card(job, SPEC.model_copy(update={"window": window}))
    assert "| a frame | 4 features |" in text and "serves no raw video" in text and "load_model" not in text
