"""Starts from published files, from storage to the backbone."""

import pickle

import pytest
import safetensors.torch
import torch

from tadscale.data.windows import WindowConfig
from tadscale.engine.start import load_start
from tadscale.errors import UserError
from tadscale.models.backbones.tsm_mobilenet_v2 import TsmMobileNetV2Config
from tadscale.models.backbones.tsm_resnet import TsmR18Config
from tadscale.models.config import ModelConfig
from tadscale.network import NetworkSpec, save_network
from tests.models.backbones.published import files

SETTINGS = TsmMobileNetV2Config()


class Tracker:
    """What training code leaves in its checkpoints."""


@pytest.fixture
def published() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: value.clone() for name, value in SETTINGS.build(3).state_dict().items()}


def loaded(path) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    backbone = SETTINGS.build(3)
    load_start(backbone, str(path))
    return backbone.state_dict()


def test_a_training_codes_checkpoint_starts_a_backbone(published, tmp_path, caplog):
    path = tmp_path / "tsm.pth"
    torch.save({"epoch": 50, "state_dict": files.tsm_mobilenet(published)}, path)
    with caplog.at_level("INFO"):
        state = loaded(path)
    assert all(torch.equal(state[name], value) for name, value in published.items())
    assert "312 tensors read, left out: new_fc.weight, new_fc.bias" in caplog.text


def test_safetensors_start_a_backbone(published, tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(files.torchvision_mobilenet(published), path)
    state = loaded(path)
    assert all(torch.equal(state[name], value) for name, value in published.items())


def test_a_file_that_does_not_fit_is_named_with_its_setting(published, tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(published | {"features.19.0.weight": torch.zeros(1)}, path)
    with pytest.raises(
        ValueError, match=r"model\.backbone\.weights .*net\.safetensors.*features\.19\.0\.weight is unk"
    ):
        loaded(path)


def test_a_pickle_of_more_than_tensors_is_refused(published, tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"state_dict": published, "tracker": Tracker()}, path)
    with pytest.raises(ValueError, match=r"net\.pth cannot be read as \.pth: it holds .*Tracker.*may run code"):
        loaded(path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps({"state_dict": Tracker()}, protocol=2))
    with pytest.raises(ValueError, match=r"plain\.pth cannot be read"):
        loaded(plain)


@pytest.mark.parametrize(
    ("theirs", "ours", "remedy"),
    [
        (TsmR18Config(width=8, shift_first="previous"), TsmR18Config(width=8), "shift_first=previous"),
        (TsmMobileNetV2Config(padding="tensorflow"), TsmMobileNetV2Config(), "padding=tensorflow"),
        (TsmMobileNetV2Config(), TsmMobileNetV2Config(normalisation="signed_unit"), "normalisation=imagenet"),
        (TsmMobileNetV2Config(shift=False), TsmMobileNetV2Config(), "shift=False"),
    ],
)
def test_weights_that_fit_and_would_mean_another_network_start_none(tmp_path, theirs, ours, remedy):
    """A shift the other way, for one: it would see every clip played backwards."""
    spec = NetworkSpec(
        mode="baseline", model=ModelConfig(backbone=theirs, dim=8), classes=("a",), window=WindowConfig(frames=16)
    )
    save_network(str(tmp_path), spec, spec.build().state_dict())
    with pytest.raises(UserError, match=rf"set model\.backbone\.{remedy}$"):
        load_start(ours.build(3), str(tmp_path))
    load_start(theirs.build(3), str(tmp_path))
    load_start(theirs.model_copy(update={"stride": 4}).build(3), str(tmp_path))
