"""What makes features, from its files: the same rows, or an error that says why not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tadscale.data.features import FeatureRows
from tadscale.errors import UserError
from tadscale.models.backbones.i3d import I3dConfig
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.serving.extract import stream_rows
from tadscale.serving.feature_extractor import load_extractor
from tests.serving.tiny import clip
from tests.serving.tiny_features import PICTURES, laid, made


@pytest.mark.parametrize("settings", [Small3dConfig(width=4), I3dConfig(width=8)], ids=["small3d", "i3d"])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_from_its_files_it_makes_the_same_rows(settings, resize: str, tmp_path: Path) -> None:
    window = PICTURES.model_copy(update={"frames": 64, "width": 24, "resize": resize})
    torch.manual_seed(0)
    backbone = settings.build(3).eval()
    spec, weights = made(settings, window)  # the same seed, the same weights
    extractor = load_extractor(str(laid(tmp_path, spec, weights)), spec)
    video, duration_s = clip(7.3), 7.3
    wanted = np.concatenate(list(stream_rows(backbone, video, duration_s, window, device="cpu")))
    rows = np.stack(list(extractor.stream(video, duration_s)))
    assert len(rows) == extractor.count(duration_s) == -(-73 // backbone.stride)
    np.testing.assert_array_equal(rows, wanted)
    assert spec.rows == FeatureRows(
        channels=backbone.out_channels, stride=backbone.stride, offset=backbone.offset, video_fps=10.0
    )


def test_how_often_activations_are_kept_is_none_of_its_settings() -> None:
    spec, _ = made()
    assert not {"weights", "checkpoint"} & set(spec.backbone)
    assert spec.backbone["name"] == "small3d"


def test_weights_that_are_gone_or_others_are_named(tmp_path: Path) -> None:
    spec, _ = made()
    folder = laid(tmp_path, spec, made(seed=9)[1])
    with pytest.raises(UserError, match=r"extractor\.safetensors has digest .* s3://somewhere/start with digest a"):
        load_extractor(str(folder), spec)
    (folder / "extractor.safetensors").unlink()
    with pytest.raises(UserError, match=r"extractor\.safetensors is missing \(it was made of s3://somewhere/start"):
        load_extractor(str(folder), spec)


def test_code_that_makes_another_network_of_it_is_refused(tmp_path: Path) -> None:
    spec, weights = made()
    folder = str(laid(tmp_path, spec, weights))
    other = spec.model_copy(update={"rows": spec.rows.model_copy(update={"stride": 4})})
    with pytest.raises(UserError, match=r"makes rows of \(channels, stride, offset\) \(16, 2, 0\.0\) here"):
        load_extractor(folder, other)
    unknown = spec.model_copy(update={"backbone": {"name": "resnext"}})
    with pytest.raises(UserError, match=r"of a backbone that this tadscale does not know"):
        load_extractor(folder, unknown)
