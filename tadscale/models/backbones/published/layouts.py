"""How published backbones name their tensors, and one form for all of them.

The same network is published under several naming schemes. Each is a table of rules here, from its names to a canonical
form, which is torchvision's wherever torchvision has the network:

- ResNet, 2-D or 3-D: `conv1.weight`, `bn1.bias`, `layer1.0.conv2.weight`, `layer2.0.downsample.0.weight`;
- R3D, R(2+1)D: `stem.0.weight`, `layer1.0.conv1.0.weight` or, factorised, `layer1.0.conv1.0.3.weight`;
- SlowFast: the same twice, under `slow.` and `fast.`, and `fuse1.conv.weight`, `fuse1.bn.bias` from fast to slow;
- MobileNetV2: `features.0.0.weight`, `features.1.conv.0.0.weight`;
- I3D (Inception): the names of its port to PyTorch, `Mixed_3b.b1a.conv3d.weight`;
- ViT: VideoMAE's after fine-tuning, `blocks.0.attn.q_bias`, `blocks.0.mlp.fc1.weight`.

Names are taken without the prefixes of wrappers (`tadscale.weights.without_prefixes`).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tadscale.errors import UserError
from tadscale.weights import PARAMETER, Rules, renamed

NAMED_KEYS = 3


@dataclass(frozen=True)
class Layout:
    """A naming scheme."""

    name: str
    """Who publishes it, for people."""
    mark: str
    """Pattern of a name that every file of the layout has, and that tells it from the layouts after it."""
    rules: Rules
    """From its names to the canonical form; None for a classifier's."""

    def rename(self, name: str) -> str | None:
        """The canonical name; None for a classifier's. A name that no rule knows comes back as it is (see `unmatched`)."""
        return renamed(name, self.rules)

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """The names that no rule knows: of parts that the plain network lacks, such as non-local blocks."""
        return [name for name in names if not any(re.fullmatch(pattern, name) for pattern, _ in self.rules)]


def detect_layout(names: Iterable[str], where: str) -> Layout:
    """The layout that a file's names are in.

    Args:
        names: of all its tensors.
        where: how the error names the file.

    Raises:
        UserError: they are in none of the `LAYOUTS`.
    """
    listed = list(names)
    for layout in LAYOUTS:
        if any(re.fullmatch(layout.mark, name) for name in listed):
            return layout
    known = "; ".join(layout.name for layout in LAYOUTS)
    raise UserError(
        f"{where}: its names ({', '.join(listed[:NAMED_KEYS])}, ...) are in no layout known here ({known}): it is another "
        "network, or has a prefix of its own before every name; give such a file, or rename its tensors"
    )


RESNET: Rules = (
    (rf"((?:conv1|bn1)\.{PARAMETER})", r"\1"),
    (rf"(layer[1-4]\.\d+\.(?:(?:conv|bn)[123]|downsample\.[01])\.{PARAMETER})", r"\1"),
    (rf"fc\.{PARAMETER}", None),
)
VIDEO_PART = (
    rf"stem\.[0134]\.{PARAMETER}"
    rf"|layer[1-4]\.\d+\.(?:conv[12]\.(?:[01]|0\.[013])|downsample\.[01])\.{PARAMETER}"
)
VIDEO_RESNET: Rules = ((rf"({VIDEO_PART})", r"\1"), (rf"fc\.{PARAMETER}", None))
# One classifier of actions, or one of actions and one of whether there is any; a layer, or a layer in a sequence.
TSP: Rules = ((rf"features\.({VIDEO_PART})", r"\1"), (rf"fc[12]?\.(?:\d+\.)?{PARAMETER}", None))
# The shifted layer is wrapped, and its own name comes after `net`: the first convolution of a block. Where it is the whole
# block (TSM's place "block"), what the skip connection carries is shifted too: another network, of which no rule knows.
TSM_RESNET: Rules = (
    (rf"base_model\.((?:conv1|bn1)\.{PARAMETER})", r"\1"),
    (
        rf"base_model\.(layer[1-4]\.\d+)\.((?:conv|bn)[123]|downsample\.[01])(?:\.net)?\.{PARAMETER}",
        r"\1.\2.\3",
    ),
    (rf"(?:base_model\.fc|new_fc)\.{PARAMETER}", None),
)
MOBILENET_V2: Rules = (
    (rf"(features\.(?:0|18)\.[01]\.{PARAMETER})", r"\1"),
    (rf"(features\.1\.conv\.(?:0\.[01]|[12])\.{PARAMETER})", r"\1"),
    (rf"(features\.\d+\.conv\.(?:[01]\.[01]|[23])\.{PARAMETER})", r"\1"),
    (rf"classifier\.1\.{PARAMETER}", None),
)
INCEPTION_I3D: Rules = (
    (rf"(Conv3d_(?:1a_7x7|2b_1x1|2c_3x3)\.(?:conv3d|bn)\.{PARAMETER})", r"\1"),
    (rf"(Mixed_[345][b-f]\.b(?:0|1a|1b|2a|2b|3b)\.(?:conv3d|bn)\.{PARAMETER})", r"\1"),
    (rf"logits\.conv3d\.{PARAMETER}", None),
)
VIT_PART = (
    r"patch_embed\.proj\.(?:weight|bias)"
    r"|blocks\.\d+\.(?:norm[12]\.(?:weight|bias)|attn\.(?:[qv]_bias|qkv\.weight|proj\.(?:weight|bias))"
    r"|mlp\.fc[12]\.(?:weight|bias))"
)
VIDEOMAE: Rules = (
    (rf"({VIT_PART}|fc_norm\.(?:weight|bias))", r"\1"),
    (r"head\.(?:weight|bias)", None),
)
# Fine-tuning drops the norm that ends the encoder and begins another, on averages: here both are the last norm.
VIDEOMAE_PRETRAINED: Rules = (
    (rf"encoder\.({VIT_PART})", r"\1"),
    (r"encoder\.norm\.(weight|bias)", r"fc_norm.\1"),
    (r"decoder\..*|encoder_to_decoder\..*|mask_token", None),
)


def _flat_mobilenet_v2() -> Iterator[tuple[str, str | None]]:
    """A block is one flat sequence with its activations counted, where torchvision nests convolution, norm, activation."""
    yield rf"(?:base_model\.)?(features\.(?:0|18)\.[01]\.{PARAMETER})", r"\1"
    for flat, nested in {0: "0.0", 1: "0.1", 3: "1", 4: "2"}.items():  # the first block has no expansion
        yield rf"(?:base_model\.)?features\.1\.conv\.{flat}\.{PARAMETER}", rf"features.1.conv.{nested}.\1"
    for flat, nested in {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2", 7: "3"}.items():
        pattern = rf"(?:base_model\.)?features\.([2-9]|1[0-7])\.conv\.{flat}(?:\.net)?\.{PARAMETER}"
        yield pattern, rf"features.\1.conv.{nested}.\2"
    yield rf"(?:(?:base_model\.)?classifier|new_fc)\.{PARAMETER}", None


def _pathway(number: int, prefix: str) -> Iterator[tuple[str, str | None]]:
    """One pathway of PySlowFast: stages s1 to s5, where torchvision has a stem and layer1 to layer4."""
    yield rf"s1\.pathway{number}_stem\.conv\.{PARAMETER}", rf"{prefix}conv1.\1"
    yield rf"s1\.pathway{number}_stem\.bn\.{PARAMETER}", rf"{prefix}bn1.\1"
    parts = {"branch1": "downsample.0", "branch1_bn": "downsample.1"}
    parts |= {f"branch2.{letter}": f"conv{n}" for n, letter in enumerate("abc", 1)}
    parts |= {f"branch2.{letter}_bn": f"bn{n}" for n, letter in enumerate("abc", 1)}
    for stage in range(2, 6):
        for part, canonical in parts.items():
            pattern = rf"s{stage}\.pathway{number}_res(\d+)\.{re.escape(part)}\.{PARAMETER}"
            yield pattern, rf"{prefix}layer{stage - 1}.\1.{canonical}.\2"


def _slowfast() -> Iterator[tuple[str, str | None]]:
    yield from _pathway(0, "slow.")
    yield from _pathway(1, "fast.")
    yield rf"s([1-4])_fuse\.conv_f2s\.{PARAMETER}", r"fuse\1.conv.\2"
    yield rf"s([1-4])_fuse\.bn\.{PARAMETER}", r"fuse\1.bn.\2"


def _pytorchvideo_slowfast() -> Iterator[tuple[str, str | None]]:
    """Block 0 is the stem, 1 to 4 the stages, each with its pathways, 0 slow and 1 fast, and what fuses them behind it."""
    parts = {"branch1_conv": "downsample.0", "branch1_norm": "downsample.1"}
    parts |= {f"branch2.conv_{letter}": f"conv{n}" for n, letter in enumerate("abc", 1)}
    parts |= {f"branch2.norm_{letter}": f"bn{n}" for n, letter in enumerate("abc", 1)}
    for number, prefix in enumerate(("slow", "fast")):
        for part, canonical in {"conv": "conv1", "norm": "bn1"}.items():
            yield rf"blocks\.0\.multipathway_blocks\.{number}\.{part}\.{PARAMETER}", rf"{prefix}.{canonical}.\1"
        for part, canonical in parts.items():
            place = rf"blocks\.([1-4])\.multipathway_blocks\.{number}\.res_blocks\.(\d+)"
            yield rf"{place}\.{re.escape(part)}\.{PARAMETER}", rf"{prefix}.layer\1.\2.{canonical}.\3"
    for block in range(4):
        for part, canonical in {"conv_fast_to_slow": "conv", "norm": "bn"}.items():
            yield rf"blocks\.{block}\.multipathway_fusion\.{part}\.{PARAMETER}", rf"fuse{block + 1}.{canonical}.\1"
    yield rf"blocks\.6\.proj\.{PARAMETER}", None


PYSLOWFAST_HEAD: Rules = ((rf"head\.projection\.{PARAMETER}", None),)
LAYOUTS = (
    Layout("torchvision's ResNets", r"layer1\.0\.conv1\.weight", RESNET),
    Layout("torchvision's video ResNets", r"layer1\.0\.conv1\.0\.(0\.)?weight", VIDEO_RESNET),
    Layout("TSP's R(2+1)D", r"features\.layer1\.0\.conv1\.0\.(0\.)?weight", TSP),
    Layout("TSM's ResNets", r"base_model\.layer1\.0\.(net\.)?conv1\.(net\.)?weight", TSM_RESNET),
    Layout("torchvision's MobileNetV2", r"features\.1\.conv\.0\.0\.weight", MOBILENET_V2),
    Layout("TSM's MobileNetV2", r"(base_model\.)?features\.1\.conv\.0\.weight", tuple(_flat_mobilenet_v2())),
    Layout("pytorch-i3d", r"Conv3d_1a_7x7\.conv3d\.weight", INCEPTION_I3D),
    Layout("VideoMAE's ViT", r"blocks\.0\.attn\.q_bias", VIDEOMAE),
    Layout("VideoMAE's ViT before fine-tuning", r"encoder\.blocks\.0\.attn\.q_bias", VIDEOMAE_PRETRAINED),
    Layout("PySlowFast's SlowFast", r"s1\.pathway1_stem\.conv\.weight", (*_slowfast(), *PYSLOWFAST_HEAD)),
    Layout(
        "PyTorchVideo's SlowFast", r"blocks\.0\.multipathway_blocks\.1\.conv\.weight", tuple(_pytorchvideo_slowfast())
    ),
    Layout("PySlowFast's C2D, I3D, Slow", r"s1\.pathway0_stem\.conv\.weight", (*_pathway(0, ""), *PYSLOWFAST_HEAD)),
)
