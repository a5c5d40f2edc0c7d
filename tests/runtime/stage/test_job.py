"""The job's tree of settings."""

from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_model_name

from tadscale.data.pack import Transcode
from tadscale.metrics.nms import NmsConfig
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.tracking.track import check_registrable

BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "const", "enum"}


def unbounded(node: Any, path: str) -> list[str]:
    """Places of a JSON Schema where a number may be anything."""
    if isinstance(node, list):
        return [place for index, part in enumerate(node) for place in unbounded(part, f"{path}[{index}]")]
    if not isinstance(node, dict):
        return []
    own = [path] if node.get("type") in ("integer", "number") and not BOUNDS & node.keys() else []
    return own + [place for name, part in node.items() for place in unbounded(part, f"{path}.{name}")]


@pytest.mark.parametrize("kind", [JobConfig, Transcode])
def test_every_numeric_setting_has_its_range_in_its_type(kind):
    assert not unbounded(kind.model_json_schema(), kind.__name__)


def test_the_check_finds_a_number_without_a_range():
    assert unbounded({"properties": {"n": {"type": "integer"}, "m": {"type": "number", "minimum": 0}}}, "x") == [
        "x.properties.n"
    ]


@pytest.mark.parametrize(
    "name",
    ["a", "team detector", "模型-1", "a.b", "", " ", "a/b", "a:b", ".", "..", "../a", "/a", "models:/a", "x" * 256],
)
def test_a_name_that_we_let_pass_the_registry_takes(name):
    try:
        check_registrable(name)
    except ValueError:
        with pytest.raises(MlflowException):
            _validate_model_name(name)
    else:
        _validate_model_name(name)


@pytest.mark.parametrize("name", ["it's", "x" * 257, ".hidden"])
def test_names_that_cannot_be_searched_or_stored_are_refused_too(name):
    with pytest.raises(ValueError, match="registry takes no model named"):
        check_registrable(name)


def suppression(head: str, nms: dict[str, Any] | None = None) -> NmsConfig:
    """How detections are thinned out in a job with this head that says this of it."""
    evaluate = {} if nms is None else {"evaluate": {"inference": {"nms": nms}}}
    job = JobConfig.model_validate(
        {"kind": "distill", "name": "a", "storage": "s", "data": {"url": "d"}, "model": {"head": {"name": head}}}
        | evaluate
    )
    again = JobConfig.model_validate(job.model_dump())
    assert again.evaluate == job.evaluate
    return job.evaluate.inference.nms


def test_a_head_names_its_suppression():
    assert suppression("actionformer") == NmsConfig(method="soft")
    assert suppression("tadtr") == NmsConfig(method="none")


def test_what_a_job_says_of_suppression_goes_before_its_heads_choice():
    assert suppression("tadtr", {"method": "soft"}) == NmsConfig(method="soft")
    assert suppression("actionformer", {"method": "hard", "tiou": 0.3}) == NmsConfig(method="hard", tiou=0.3)
    assert suppression("tadtr", {"top_k": 7}) == NmsConfig(method="none", top_k=7)
    assert suppression("tadtr", {}) == NmsConfig(method="none")
