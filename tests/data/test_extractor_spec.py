"""What made features, read beside them."""

import hashlib
from pathlib import Path

import pytest

from tadscale.data.extractor_spec import EXTRACTOR_NAME, ExtractorSpec, read_extractor_spec, read_extractor_weights
from tadscale.data.features import FeatureRows
from tadscale.errors import UserError
from tests.data.snippets import extractor_of

ROWS = FeatureRows(channels=6, stride=4, offset=8, video_fps=30)


def test_what_is_written_is_read_and_nothing_is_none(tmp_path: Path) -> None:
    assert read_extractor_spec(str(tmp_path)) is None
    spec = extractor_of(ROWS, tmp_path)
    assert read_extractor_spec(str(tmp_path)) == spec
    assert read_extractor_weights(str(tmp_path), spec) == b"weights"
    assert spec.without_place() == spec.model_copy(update={"weights_url": ""}) != spec
    assert ExtractorSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("text", ["{}", "[1]", '{"format": 2}'])
def test_a_description_that_is_not_understood_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / EXTRACTOR_NAME).write_text(text)
    with pytest.raises(UserError, match=r"extractor\.json does not describe an extractor"):
        read_extractor_spec(str(tmp_path))


def test_weights_are_verified(tmp_path: Path) -> None:
    spec = extractor_of(ROWS, tmp_path)
    other = spec.model_copy(update={"sha256": hashlib.sha256(b"other").hexdigest()})
    with pytest.raises(UserError, match=r"has digest .* damaged or replaced"):
        read_extractor_weights(str(tmp_path), other)
    with pytest.raises(UserError, match=r"is missing \(it was made of s3://somewhere/start"):
        read_extractor_weights(str(tmp_path / "elsewhere"), spec)
