"""An alias that moves all the time, and consumers that never notice more than which version answers."""

import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tadscale.network import save_network
from tadscale.runtime.models.follow import RegisteredModel
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tadscale.segments import Detection
from tadscale.serving import Predictor
from tadscale.serving.following import FollowingPredictor
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401
from tests.serving.conftest import package, video  # noqa: F401
from tests.serving.tiny import SPEC, student_weights

PULL_S = 0.1  # ten times a second


@pytest.fixture
def tracking_uri(storage: Path, package: Path, tmp_path: Path) -> str:  # noqa: F811
    """A registry with two versions of `tiny`, the first of which is the champion."""
    with track_job(TrackingConfig(), job="distill", storage=str(storage), settings={}) as run:
        registry = Registry(run.tracking_uri)
        for seed in (1, 2):
            folder = shutil.copytree(package, tmp_path / str(seed))
            save_network(str(folder / "artifacts" / "detector"), SPEC, student_weights(seed))
            registry.register(run, "tiny", folder, metrics={}, tags={})
        return run.tracking_uri


class Consumer(threading.Thread):
    """Asks again and again, as if for a stream of clips, and compares each answer with what its version must say."""

    def __init__(self, expected: dict[str, list[Detection]]) -> None:
        super().__init__(daemon=True)
        self.expected, self.stop = expected, threading.Event()
        self.seen: Counter[str] = Counter()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stop.wait(PULL_S):
                version, detections = self.ask()
                assert detections == self.expected[version] != []
                self.seen[version] += 1
        except Exception as error:
            self.error = error

    def ask(self) -> tuple[str, list[Detection]]:
        raise NotImplementedError


class Puller(Consumer):
    """Resolves the alias, downloads and loads the model, for every request."""

    def __init__(self, model: RegisteredModel, clip: bytes, expected: dict[str, list[Detection]]) -> None:
        super().__init__(expected)
        self.model, self.clip = model, clip

    def ask(self) -> tuple[str, list[Detection]]:
        version = self.model.current()
        with self.model.fetch(version) as folder:
            return version, Predictor.from_directory(folder, "cpu").detect(self.clip, "clip")[1]


class Follower(Consumer):
    """Has a detector that follows."""

    def __init__(self, detector: FollowingPredictor, clip: bytes, expected: dict[str, list[Detection]]) -> None:
        super().__init__(expected)
        self.detector, self.clip = detector, clip

    def ask(self) -> tuple[str, list[Detection]]:
        version, prediction = self.detector.predict([self.clip], ["clip"])
        assert not prediction.failures
        return version, prediction.detections


@pytest.mark.parametrize("rounds", [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_an_alias_that_moves_under_load(tracking_uri: str, video: bytes, rounds: int) -> None:  # noqa: F811
    """A round is a promotion and a rollback."""
    registry, model = Registry(tracking_uri), RegisteredModel("models:/tiny@champion", tracking_uri)
    expected = {}
    for version in ("1", "2"):
        with model.fetch(version) as folder:
            expected[version] = Predictor.from_directory(folder, "cpu").detect(video, "clip")[1]
    assert expected["1"] != expected["2"]
    with FollowingPredictor(model, interval_s=PULL_S, device="cpu") as detector:
        consumers = [Puller(model, video, expected), Follower(detector, video, expected)]
        for consumer in consumers:
            consumer.start()
        for _ in range(rounds):
            for move in (lambda: registry.promote("tiny", 2), lambda: registry.rollback("tiny")):
                move()
                time.sleep(PULL_S)
        registry.promote("tiny", 2)
        deadline = time.monotonic() + 30
        while detector.state.version != "2" or not all(consumer.seen["2"] for consumer in consumers):
            assert time.monotonic() < deadline and all(consumer.is_alive() for consumer in consumers)
            time.sleep(PULL_S)
        for consumer in consumers:
            consumer.stop.set()
            consumer.join(30)
            assert consumer.error is None and set(consumer.seen) == {"1", "2"}, (consumer.error, consumer.seen)
        assert not detector.state.error
    assert len(registry.moves("tiny")) >= 2 * rounds + 1


def test_a_follower_outlives_its_registry(tracking_uri: str, video: bytes) -> None:  # noqa: F811
    model = RegisteredModel("tiny", tracking_uri)
    with FollowingPredictor(model, interval_s=0.02, device="cpu") as detector:
        before = detector.predict([video])
        Registry(tracking_uri)._client.delete_registered_model_alias("tiny", "champion")
        deadline = time.monotonic() + 20
        while not detector.state.failures:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert "has no champion: version 1, which reigned, lost the alias" in detector.state.error
        assert detector.predict([video]) == before
