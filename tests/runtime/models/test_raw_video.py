"""What a registered model on features carries of what made them, and why it carries nothing."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tadscale.data.config import DataConfig
from tadscale.data.decode import VideoInfo
from tadscale.data.extractor_spec import EXTRACTOR_WEIGHTS_NAME, ExtractorSpec
from tadscale.data.features import RGB_SUFFIX, npy_bytes
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.source import Source
from tadscale.data.windows import WindowConfig
from tadscale.flow.motion import MotionConfig
from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.models.backbones.features import FeaturesConfig
from tadscale.models.config import ModelConfig
from tadscale.network import read_spec, save_network, spec_digest
from tadscale.runtime.jobs.preflight.doubts import doubts
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.models import publish as publishing
from tadscale.runtime.models.publish import publish
from tadscale.runtime.models.raw_video import raw_video
from tadscale.runtime.stage.choice import last_weights
from tadscale.runtime.stage.job import JobConfig
from tadscale.serving.predictor import Predictor, detector_folder
from tests.runtime.conftest import result_of
from tests.serving.tiny import clip
from tests.serving.tiny_features import detector, made

SPEC, WEIGHTS = made()
ROWS = SPEC.rows


def shards(folder: Path, name: str, made_by: ExtractorSpec | None = SPEC, subset: str = "train") -> str:
    """Features of two videos in one subset, and of one on test."""
    rows = np.zeros((20, ROWS.channels), np.float32)
    info = VideoInfo(4.0, ROWS.fps, 20, ROWS.channels, 1)
    samples = [
        VideoSample(f"{name}-{index}", npy_bytes(rows), {"subset": where, "annotations": annotations}, RGB_SUFFIX, info)
        for index, where in enumerate((subset, subset, "test"))
        for annotations in [[{"label": label, "segment": [0.5, 2.5]} for label in ("jump", "run")]]
    ]
    url = str(folder / name)
    write_shards(samples, url, features=ROWS, extractor=made_by)
    if made_by is not None:
        (folder / name / EXTRACTOR_WEIGHTS_NAME).write_bytes(WEIGHTS)
    return url


def job_on(url: str, folder: Path, *sources: str) -> JobConfig:
    window = WindowConfig(frames=12, stride_frames=6, fps=ROWS.fps, features=ROWS)
    every = tuple(Source(url=one, subset="train") for one in sources)
    return JobConfig(
        kind="distill",
        name="x",
        storage=str(folder / "runs"),
        data=DataConfig(url=url, window=window, sources=every),
        motion=MotionConfig(name="features", flow_url=url, feature_channels=4),
        model=ModelConfig(backbone=FeaturesConfig(width=8)),
        tracking={"registered_model": "tiny"},
    )


def test_it_is_what_all_that_is_trained_on_was_made_by(tmp_path: Path) -> None:
    elsewhere = SPEC.model_copy(update={"weights_url": "another place"})
    one, two = shards(tmp_path, "one"), shards(tmp_path, "two", elsewhere)
    found = raw_video(job_on(one, tmp_path, one, two))
    assert found == (SPEC.without_place(), WEIGHTS, "")


@pytest.mark.parametrize(("case", "says"), [
    ("unknown", r"one says of no backbone here that it made its features"),
    ("another", r"one and of .*two were not made by one backbone in one way"),
    ("gone", r"extractor\.safetensors is missing \(it was made of s3://somewhere/start"),
    ("damaged", r"extractor\.safetensors has digest"),
])  # fmt: skip
def test_why_there_is_none_is_told_before_training(case: str, says: str, tmp_path: Path) -> None:
    one = shards(tmp_path, "one", None if case == "unknown" else SPEC)
    other = shards(tmp_path, "two", SPEC.model_copy(update={"sha256": "0" * 64}))
    weights = tmp_path / "one" / EXTRACTOR_WEIGHTS_NAME
    if case == "gone":
        weights.unlink()
    if case == "damaged":
        weights.write_bytes(b"others")
    job = job_on(one, tmp_path, *((one, other) if case == "another" else ()))
    [doubt] = doubts(Facts(job), of_stages=False)
    assert doubt.startswith("the model that is registered will not run on raw video, on features alone: ")
    with pytest.raises(ValueError, match=says):
        raise ValueError(raw_video(job).lacks)
    nameless = job.model_copy(update={"tracking": job.tracking.model_copy(update={"registered_model": None})})
    assert not list(doubts(Facts(nameless), of_stages=False))


def published(job: JobConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package lies that publishing the job's student has made."""
    spec, weights = detector(SPEC, carries=False)
    save_network(str(folder / "stage" / "weights"), spec, weights)
    stage = result_of(str(folder / "stage"), network_sha256=spec_digest(str(folder / "stage" / "weights")))
    score = MeanAveragePrecision(
        tiou=(0.5,), labels=spec.classes, per_class=np.full((2, 1), 0.5), instances=np.ones(2, int)
    )

    class Fake:
        def __init__(self, *_: Any) -> None: ...

        def register(self, _run: Any, _name: str, package: Path, **what: Any) -> None:
            (folder / "card.md").write_text(what["card"])
            package.rename(folder / "package")

    monkeypatch.setattr(publishing, "Registry", Fake)
    run: Any = SimpleNamespace(tracking_uri="", patience_s=0.0)
    publish(job, last_weights(stage), {"decomposed": score}, run, mode="decomposed", name="tiny")
    return folder / "package"


def test_what_is_registered_detects_in_video_and_says_what_it_carries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_on(shards(tmp_path, "one"), tmp_path)
    assert not list(doubts(Facts(job), of_stages=False))
    package = published(job, tmp_path, monkeypatch)
    assert read_spec(str(detector_folder(package))).extractor == SPEC.without_place()
    card = (tmp_path / "card.md").read_text()
    assert 'mlflow.pyfunc.load_model("models:/tiny@champion")' in card and "no raw video" not in card
    assert f"| features made by | small3d, weights {SPEC.sha256}, in chunks of 16 frames |" in card
    assert "| features made of | 32x32 pixels, RGB, resized, 10 a second |" in card
    assert Predictor.from_directory(package, "cpu").predict([clip(2.0)]).detections


def test_weights_that_are_gone_after_training_cost_no_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_on(shards(tmp_path, "one"), tmp_path)
    (tmp_path / "one" / EXTRACTOR_WEIGHTS_NAME).unlink()
    with caplog.at_level(logging.WARNING):
        package = published(job, tmp_path, monkeypatch)
    assert "tiny will not run on raw video" in caplog.text and "is missing" in caplog.text
    assert "it serves no raw video" in (tmp_path / "card.md").read_text()
    with pytest.raises(ValueError, match="detects nothing in raw video"):
        Predictor.from_directory(package, "cpu")
    before = spec_digest(str(detector_folder(package)))
    (tmp_path / "one" / EXTRACTOR_WEIGHTS_NAME).write_bytes(WEIGHTS)
    package.rename(tmp_path / "before")
    again = detector_folder(published(job, tmp_path, monkeypatch))
    assert spec_digest(str(again)) != before  # and so another version of the model
