"""Published checkpoints as their layouts have them, made from a network's own tensors, key by key."""

import re

import torch
from torch import Tensor

SHIFTED_BLOCKS = (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)  # of MobileNetV2: those with a skip connection
FLAT = {"0.0": "0", "0.1": "1", "1.0": "3", "1.1": "4", "2": "6", "3": "7"}
FLAT_FIRST = {"0.0": "0", "0.1": "1", "1": "3", "2": "4"}  # the first block has no expansion


def linear(name: str, channels: int, classes: int = 10) -> dict[str, Tensor]:
    """A classifier, which no backbone has."""
    return {f"{name}.weight": torch.zeros(classes, channels), f"{name}.bias": torch.zeros(classes)}


def torchvision_mobilenet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's MobileNetV2."""
    return state | linear("classifier.1", 1280)


def tsm_mobilenet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """TSM's: blocks are flat, the shifted convolution is wrapped, everything is a data-parallel model's base model."""
    return {
        f"module.{name}": value
        for name, value in ({_flat(key): v for key, v in state.items()} | linear("new_fc", 1280)).items()
    }


def _flat(name: str) -> str:
    found = re.fullmatch(r"features\.(\d+)\.conv\.(\d\.[01](?=\.)|\d)\.(\w+)", name)
    if found is None:
        return f"base_model.{name}"
    block, place, parameter = int(found[1]), found[2], found[3]
    flat = (FLAT_FIRST if block == 1 else FLAT)[place]
    net = ".net" if block in SHIFTED_BLOCKS and place == "0.0" else ""
    return f"base_model.features.{block}.conv.{flat}{net}.{parameter}"


def torchvision_resnet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's ResNet."""
    return state | linear("fc", 512)


def tsp(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """TSP's: a network of features, and classifiers of actions and of whether there is any."""
    features = {f"features.{name}": value for name, value in state.items()}
    return features | linear("fc1", 512) | linear("fc2", 1024)


def tsm_resnet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """TSM's: the first convolution of every block is wrapped."""
    wrapped = {re.sub(r"(layer\d\.\d\.conv1)", r"\1.net", name): value for name, value in state.items()}
    return {f"module.base_model.{name}": value for name, value in wrapped.items()} | linear("module.new_fc", 512)


def pytorch_i3d(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pytorch-i3d's: the names are the network's own; older than batch norm's counters."""
    classifier = {"logits.conv3d.weight": torch.zeros(10, 1024, 1, 1, 1), "logits.conv3d.bias": torch.zeros(10)}
    return {name: value for name, value in state.items() if "num_batches" not in name} | classifier


def pyslowfast(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """PySlowFast's: stages s1 to s5, two pathways side by side in each, and the fusion after all but the last."""
    return {_pyslowfast_name(name): value for name, value in state.items()} | linear("head.projection", 2304)


BRANCHES = {"conv1": "branch2.a", "conv2": "branch2.b", "conv3": "branch2.c", "downsample.0": "branch1"}
BRANCHES |= {"bn1": "branch2.a_bn", "bn2": "branch2.b_bn", "bn3": "branch2.c_bn", "downsample.1": "branch1_bn"}


def _pyslowfast_name(name: str) -> str:
    if found := re.fullmatch(r"fuse(\d)\.(conv|bn)\.(\w+)", name):
        return f"s{found[1]}_fuse.{'conv_f2s' if found[2] == 'conv' else 'bn'}.{found[3]}"
    pathway = ("slow", "fast").index(name.partition(".")[0])
    if found := re.fullmatch(r"\w+\.(conv|bn)1\.(\w+)", name):
        return f"s1.pathway{pathway}_stem.{found[1]}.{found[2]}"
    found = re.fullmatch(r"\w+\.layer(\d)\.(\d)\.(downsample\.\d|\w+)\.(\w+)", name)
    assert found is not None, name
    return f"s{int(found[1]) + 1}.pathway{pathway}_res{found[2]}.{BRANCHES[found[3]]}.{found[4]}"


def videomae(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """VideoMAE's after fine-tuning: the trunk's names are the network's own, and nobody published adapters."""
    trunk = {name: value for name, value in state.items() if "adapter" not in name}
    return trunk | linear("head", state["fc_norm.weight"].numel())


def videomae_pretrained(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """VideoMAE's before: an encoder, and a decoder that nobody needs afterwards."""
    trunk = {f"encoder.{name}": value for name, value in state.items() if "adapter" not in name}
    names = {name: name.replace("fc_norm", "norm") for name in trunk}
    decoder = {"mask_token": torch.zeros(1, 1, 96), "encoder_to_decoder.weight": torch.zeros(96, 192)}
    decoder |= {"decoder.blocks.0.attn.q_bias": torch.zeros(96), "decoder.norm.weight": torch.zeros(96)}
    return {names[name]: value for name, value in trunk.items()} | decoder
