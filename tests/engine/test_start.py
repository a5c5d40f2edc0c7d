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


def test_a_network_whose_channels_shift_the_other_way_starts_none(tmp_path):
    """Its weights fit, and would see every clip played backwards."""
    spec = NetworkSpec(
        mode="baseline",
        model=ModelConfig(backbone=TsmR18Config(width=8, shift_first="previous"), dim=8),
        classes=("a",),
        window=WindowConfig(frames=16),
    )
    save_network(str(tmp_path), spec, spec.build().state_dict())
    with pytest.raises(UserError, match=r"set model\.backbone\.shift_first=previous"):
        load_start(TsmR18Config(width=8).build(3), str(tmp_path))
    load_start(spec.model.backbone.build(3), str(tmp_path))
