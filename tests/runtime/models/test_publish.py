from pathlib import Path
from typing import Any

import pytest

from tadscale.network import save_network, spec_digest
from tadscale.runtime.models.publish import publish
from tadscale.runtime.stage.spec import StageResult
from tadscale.runtime.stage.stopwatch import TimeSplit
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
        publish(nothing, stage, {}, nothing, mode="decomposed", name="tiny")
