from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.network import read_spec, save_network, spec_digest
from tadscale.runtime.models import publish as publishing
from tadscale.runtime.models.publish import publish
from tadscale.runtime.stage.choice import last_weights, weights_of_epoch
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.stage.stopwatch import TimeSplit
from tests.runtime.conftest import save_untrained
from tests.serving.tiny import SPEC, student_weights


@pytest.mark.parametrize(
    ("name", "old", "new"), [("network.json", b'"jump"', b'"jumq"'), ("weights.safetensors", b"backbone", b"backbons")]
)
def test_what_was_damaged_since_its_training_is_not_published(
    name: str, old: bytes, new: bytes, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    save_network(str(weights), SPEC, student_weights())
    facts: dict[str, Any] = {"steps": 1, "losses": {}, "quarantined": 0, "seconds": TimeSplit(), "restarts": 0}
    digests = {"plan_digest": "p", "manifest_digest": "m", "network_sha256": spec_digest(str(weights))}
    stage = StageResult(url=str(tmp_path), **facts, **digests)
    damaged = (weights / name).read_bytes().replace(old, new, 1)
    assert damaged != (weights / name).read_bytes()
    (weights / name).write_bytes(damaged)
    nothing: Any = None  # neither job nor run is looked at before
    with pytest.raises(ValueError, match=rf"{name} has digest"):
        publish(nothing, last_weights(stage), {}, nothing, mode="decomposed", name="tiny")


def test_the_chosen_epoch_is_published_and_the_last_is_told_beside_it(
    make_stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(tmp_path, "decomposed")
    facts: dict[str, Any] = {"steps": 1, "losses": {}, "quarantined": 0, "seconds": TimeSplit(), "restarts": 0}
    digests = {"plan_digest": "p", "manifest_digest": "m"}
    result = StageResult(url=stage.url, epochs=2, **facts, **digests)
    kept = {epoch: spec_digest(save_untrained(stage, Path(url), epoch)) for epoch, url in _urls(result).items()}
    result = result.model_copy(update={"kept_epochs": {1: kept[1]}, "network_sha256": kept[2]})
    choice = weights_of_epoch(result, 1)._replace(validation={1: 0.75, 2: 0.5})
    scores = {name: _score(average) for name, average in {"decomposed": 0.5, "decomposed_last": 0.25}.items()}
    registered: dict[str, Any] = {}

    class Fake:
        def __init__(self, *_: Any) -> None: ...

        def register(self, _run: Any, _name: str, _package: Path, **what: Any) -> None:
            registered.update(what)

    monkeypatch.setattr(publishing, "Registry", Fake)
    run: Any = SimpleNamespace(tracking_uri="", patience_s=0.0)
    publish(stage.job, choice, scores, run, mode="decomposed", name="tiny")
    assert registered["tags"]["weights_sha256"] == read_spec(result.epoch_url(1)).weights_sha256
    assert registered["metrics"]["average_mAP"] == pytest.approx(0.5)
    assert registered["metrics"]["last_average_mAP"] == pytest.approx(0.25)
    card = registered["card"]
    assert "epoch 1 of 2, chosen on validation at 75.0 average mAP (the last: 50.0)" in card
    rows = [line for line in card.splitlines() if line.startswith("| decomposed")]
    assert [row.split(" | ")[0] for row in rows] == ["| decomposed", "| decomposed_last"]


def _urls(result: StageResult) -> dict[int, str]:
    return {1: result.epoch_url(1), 2: result.weights_url}


def _score(average: float) -> MeanAveragePrecision:
    return MeanAveragePrecision(tiou=(0.5,), labels=("a",), per_class=np.array([[average]]), instances=np.array([1]))
