"""Files of weights as others publish them: what is read, what is refused, and how they fit a network."""

import argparse
import collections
import copy
import hashlib
import io

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tadscale.weights import match_weights, read_weights, without_prefixes

STATE = {"stem.weight": torch.arange(6.0).view(2, 3), "norm.num_batches_tracked": torch.tensor(7)}


def pickled(document, **options):
    buffer = io.BytesIO()
    torch.save(document, buffer, **options)
    return buffer.getvalue()


def assert_is_the_state(tensors):
    assert tensors.keys() == STATE.keys()
    for name, value in STATE.items():
        assert torch.equal(tensors[name], value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("net.safetensors", safetensors.torch.save(STATE)),
        ("net.pth", pickled(STATE)),
        ("folder/net.v2.pt", pickled(collections.OrderedDict(STATE))),
        ("net.pyth", pickled(STATE, _use_new_zipfile_serialization=False)),
    ],
)
def test_tensors_and_digest_of_a_file(name, data):
    weights = read_weights(data, name, where=name)
    assert_is_the_state(weights.tensors)
    assert weights.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "keys", [["state_dict"], ["model"], ["model_state"], ["model_state_dict"], ["module"], ["model", "state_dict"]]
)
def test_a_state_dict_in_a_checkpoint_is_found(keys):
    document = STATE
    for key in reversed(keys):
        document = {key: document, "epoch": 3, "arch": "net", "optimizer": {"state": {}}}
    assert_is_the_state(read_weights(pickled(document), "net.pth", where="net.pth").tensors)


def test_prefixes_that_all_names_share_are_taken_off():
    wrapped = {f"module.backbone.{name}": value for name, value in STATE.items()}
    assert_is_the_state(read_weights(pickled(wrapped), "net.pth", where="net.pth").tensors)


def test_a_prefix_of_some_names_is_part_of_the_network():
    state = {"module.backbone.stem": torch.zeros(1), "module.head": torch.zeros(1)}
    assert list(without_prefixes(state)) == ["backbone.stem", "head"]
    assert without_prefixes({}) == {}


def test_the_options_of_a_training_are_harmless():
    document = {"model": STATE, "args": argparse.Namespace(lr=0.1, layers=["a"])}
    assert_is_the_state(read_weights(pickled(document), "net.pth", where="net.pth").tensors)


class Bomb:
    """Unpickled without care, it would run code."""

    def __reduce__(self):
        return copy.copy, (1,)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"weight": Bomb()}, r"copy\.copy"),
        (nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
        ({"state_dict": STATE, "best": np.float64(0.5)}, r"numpy\S*scalar"),
    ],
)
def test_a_pickle_of_more_than_tensors_is_refused_by_name_and_with_the_remedy(document, named):
    with pytest.raises(
        ValueError, match=rf"motion\.x net\.pth cannot .* it holds {named}.*save its state_dict"
    ) as caught:
        read_weights(pickled(document), "net.pth", where="motion.x net.pth")
    assert "weights_only" not in str(caught.value)  # torch's advice would run the code


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["cut short", "empty", "random"])
def test_a_damaged_file_is_refused(suffix, damage):
    whole = safetensors.torch.save(STATE) if suffix == ".safetensors" else pickled(STATE)
    data = {"cut short": whole[: len(whole) // 2], "empty": b"", "random": bytes(range(256)) * 20}[damage]
    with pytest.raises(ValueError, match=f"net{suffix} cannot be read as {suffix}: it is damaged"):
        read_weights(data, f"net{suffix}", where=f"net{suffix}")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_changed_byte_raises_anything_but_a_refusal(zipped):
    # Undamaged it would be refused as well, for what is in it: all that is asked is a ValueError.
    data = pickled({"weight": torch.zeros(3), "more": {"a": [1, "b"]}}, _use_new_zipfile_serialization=zipped)
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[generator.integers(len(data), size=4)] = generator.integers(256, size=4)
        with pytest.raises(ValueError, match=r"^net\.pth "):
            read_weights(damaged.tobytes(), "net.pth", where="net.pth")


@pytest.mark.parametrize(
    "document", [{"network": STATE}, [torch.zeros(1)], {"a": 3}, {3: torch.zeros(1)}, torch.zeros(2)]
)
def test_what_is_no_dictionary_of_tensors_is_refused(document):
    with pytest.raises(ValueError, match="no dictionary of tensors"):
        read_weights(pickled(document), "net.pth", where="net.pth")


def test_other_kinds_of_file_are_refused():
    with pytest.raises(ValueError, match=r"net\.onnx: .* ends in .*\.safetensors"):
        read_weights(b"", "net.onnx", where="net.onnx")


# How they fit


def network():
    return nn.Sequential(collections.OrderedDict(conv=nn.Conv2d(3, 4, 1, bias=False), norm=nn.BatchNorm2d(4)))


def test_a_networks_own_state_fits():
    state = network().state_dict()
    match = match_weights(network(), state)
    assert match.complete and match.problems() == "" and match.tensors.keys() == state.keys()
    assert match_weights(state, state) == match


def test_a_network_on_the_meta_device_will_do():
    with torch.device("meta"):
        shapes = network()
    assert match_weights(shapes, network().state_dict()).complete


def test_what_does_not_fit_is_named():
    state = network().state_dict()
    state["conv.bias"] = state.pop("norm.bias")
    state["norm.weight"] = torch.zeros(5)
    match = match_weights(network(), state)
    assert not match.complete
    assert match.missing == ("norm.bias",) and match.unexpected == ("conv.bias",)
    assert match.misshapen == ("norm.weight is [5], not [4]",)
    assert match.problems() == "norm.bias is missing, conv.bias is unknown, norm.weight is [5], not [4]"
    assert match.problems(limit=1) == "norm.bias is missing and 2 more"
    assert match.tensors.keys() == network().state_dict().keys() - {"norm.bias", "norm.weight"}


def test_names_of_another_layout_are_renamed_and_left_out():
    state = {name.replace("conv", "stem.0"): value for name, value in network().state_dict().items()}
    state["fc.weight"] = torch.zeros(10, 4)

    def rename(name):
        return None if name.startswith("fc.") else name.replace("stem.0", "conv")

    match = match_weights(network(), state, rename)
    assert match.complete and match.left_out == ("fc.weight",)
    assert torch.equal(match.tensors["conv.weight"], state["stem.0.weight"])


def test_two_tensors_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"conv\.weight and stem\.weight would both be the network's conv\.weight"):
        match_weights(
            network(), {"conv.weight": torch.zeros(1), "stem.weight": torch.zeros(1)}, lambda _: "conv.weight"
        )


def test_files_from_before_batch_norm_counted_fit():
    state = network().state_dict()
    del state["norm.num_batches_tracked"]
    match = match_weights(network(), state)
    assert match.complete
    network().load_state_dict(match.tensors)


def test_a_file_with_numbers_that_are_none_is_refused():
    broken = STATE | {"stem.weight": torch.tensor([1.0, torch.nan])}
    with pytest.raises(ValueError, match=r"raft.pth: stem.weight hold infinite numbers or NaN"):
        read_weights(pickled(broken), "raft.pth", "motion.raft.weights raft.pth")
