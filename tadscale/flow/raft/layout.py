"""The names of RAFT's parameters in its authors' code (princeton-vl/RAFT), in which they publish their weights."""

from tadscale.weights import PARAMETER, Rules, renamed

ENCODER = r"(feature|context)_encoder"
UNIT = rf"{ENCODER}\.(layer[123]\.[01])"
BEGINNINGS = {
    "fnet.": "feature_encoder.",
    "cnet.": "context_encoder.",
    "update_block.encoder.convc": "update_block.motion_encoder.convcorr",
    "update_block.encoder.convf": "update_block.motion_encoder.convflow",
}
RULES: Rules = (
    (rf"{ENCODER}\.conv1\.{PARAMETER}", r"\1_encoder.convnormrelu.0.\2"),
    (rf"{ENCODER}\.norm1\.{PARAMETER}", r"\1_encoder.convnormrelu.1.\2"),
    (rf"{ENCODER}\.conv2\.{PARAMETER}", r"\1_encoder.conv.\2"),
    (rf"{UNIT}\.conv([123])\.{PARAMETER}", r"\1_encoder.\2.convnormrelu\3.0.\4"),
    (rf"{UNIT}\.norm([12])\.{PARAMETER}", r"\1_encoder.\2.convnormrelu\3.1.\4"),
    (
        rf"{UNIT}\.norm3\.{PARAMETER}",
        None,
    ),  # the shortcut's: stored once more behind its convolution, as `downsample.1`
    (rf"update_block\.motion_encoder\.(conv(?:corr|flow)[12])\.{PARAMETER}", r"update_block.motion_encoder.\1.0.\2"),
    (rf"update_block\.encoder\.conv\.{PARAMETER}", r"update_block.motion_encoder.conv.0.\1"),
    (rf"update_block\.gru\.conv([zrq])\.{PARAMETER}", r"update_block.recurrent_block.convgru1.conv\1.\2"),
    (rf"update_block\.gru\.conv([zrq])([12])\.{PARAMETER}", r"update_block.recurrent_block.convgru\2.conv\1.\3"),
    (rf"update_block\.mask\.0\.{PARAMETER}", r"mask_predictor.convrelu.0.\1"),
    (rf"update_block\.mask\.2\.{PARAMETER}", r"mask_predictor.conv.\1"),
)
"""Pattern of a whole name after `BEGINNINGS` -> torchvision's."""


def torchvision_name(name: str) -> str | None:
    """A name of the authors' code as torchvision's, which is ours; None for what is stored twice, and any other as it is."""
    for begin, ours in BEGINNINGS.items():
        if name.startswith(begin):
            name = ours + name.removeprefix(begin)
    return renamed(name, RULES)
