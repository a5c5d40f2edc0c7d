"""Files of the authors' code: every tensor finds its place, by names written down from that code."""

import re

import pytest
import torch

from tadscale.errors import UserError
from tadscale.flow.raft.config import RaftConfig
from tadscale.flow.raft.estimator import Raft
from tadscale.flow.raft.network import RaftNetwork

AUTHORS = {  # ours, piece by piece -> the authors' (core/raft.py, extractor.py, update.py)
    r"^feature_encoder\.": "fnet.",
    r"^context_encoder\.": "cnet.",
    r"^(.net)\.convnormrelu\.0": r"\1.conv1",
    r"^(.net)\.convnormrelu\.1": r"\1.norm1",
    r"^(.net)\.conv\.": r"\1.conv2.",
    r"convnormrelu(\d)\.0": r"conv\1",
    r"convnormrelu(\d)\.1": r"norm\1",
    r"motion_encoder\.conv(.)(?:orr|low)(\d)\.0": r"encoder.conv\1\2",
    r"motion_encoder\.conv\.0": "encoder.conv",
    r"^mask_predictor\.convrelu\.0": "update_block.mask.0",
    r"^mask_predictor\.conv\.": "update_block.mask.2.",
}


def authors_name(name, variant):
    for ours, theirs in AUTHORS.items():
        name = re.sub(ours, theirs, name)
    of_gru = r"gru.conv\2" if variant == "small" else r"gru.conv\2\1"
    return re.sub(r"recurrent_block\.convgru(\d)\.conv(.)", of_gru, name)


@pytest.fixture(params=["small", "large"])
def variant(request):
    return request.param


@pytest.fixture
def state(variant):
    torch.manual_seed(0)
    network = RaftNetwork(variant)
    return {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }


def saved(tmp_path, variant, state):
    """A file as the authors' training writes it: wrapped, and the norm of a shortcut under both of its names."""
    theirs = {authors_name(name, variant): value for name, value in state.items()}
    twice = {name.replace("downsample.1", "norm3"): value for name, value in theirs.items() if "downsample.1" in name}
    torch.save({f"module.{name}": value for name, value in (theirs | twice).items()}, tmp_path / "raft.pth")
    return RaftConfig(variant=variant, weights=str(tmp_path / "raft.pth"), updates=1)


def test_some_names_are_the_authors(variant, state):
    names = {authors_name(name, variant) for name in state}
    both = {
        *("fnet.conv1.weight", "cnet.conv2.bias", "fnet.layer1.0.conv2.weight", "cnet.layer2.0.downsample.0.weight"),
        *("update_block.encoder.convc1.weight", "update_block.encoder.convf2.bias", "update_block.encoder.conv.weight"),
        *("update_block.flow_head.conv1.weight", "update_block.flow_head.conv2.bias"),
    }
    own = {
        "small": {"fnet.layer3.1.conv3.bias", "update_block.gru.convz.weight", "update_block.gru.convq.bias"},
        "large": {
            *("cnet.norm1.running_mean", "cnet.layer3.1.norm2.weight", "cnet.layer3.0.downsample.1.running_var"),
            *("update_block.gru.convz1.weight", "update_block.gru.convr2.bias", "update_block.encoder.convc2.weight"),
            *("update_block.mask.0.weight", "update_block.mask.2.bias"),
        },
    }
    assert both | own[variant] <= names


def test_every_tensor_finds_its_place(tmp_path, variant, state):
    loaded = Raft(saved(tmp_path, variant, state))._network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_what_is_not_known_is_named_as_the_file_has_it(tmp_path, variant, state):
    config = saved(tmp_path, variant, state | {"cnet.layer4.0.conv1.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"cnet\.layer4\.0\.conv1\.weight is unknown"):
        Raft(config)
