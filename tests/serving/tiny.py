"""A detector of a few thousand weights, untrained, and clips to run it on."""

import numpy as np
import torch
from torch import Tensor

from tadscale.data.encode import encode_h264
from tadscale.data.windows import WindowConfig
from tadscale.metrics.nms import NmsConfig
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.student import Student
from tadscale.network import InferenceConfig, NetworkSpec

NETWORK = ModelConfig(
    backbone=Small3dConfig(width=4),
    dim=8,
    head=ActionFormerConfig(dim=8, levels=2, heads=2, reach=2),
)
SPEC = NetworkSpec(
    mode="decomposed",
    model=NETWORK,
    classes=("jump", "run"),
    window=WindowConfig(frames=16, stride_frames=8, fps=10.0, height=32, width=32),
    inference=InferenceConfig(window_top_k=30, nms=NmsConfig(top_k=20)),
    motion_fingerprint="tvl1-test",
    manifest_digest="0" * 64,
)


def student_weights(seed: int = 0) -> dict[str, Tensor]:
    """The whole state of a student, branch detector included."""
    torch.manual_seed(seed)
    return Student(NETWORK, num_classes=2).state_dict()


def clip(seconds: float, seed: int = 0) -> bytes:
    """A video of noise that changes from picture to picture, 20 a second."""
    frames = np.random.default_rng(seed).integers(0, 255, (round(20 * seconds), 8, 8, 3), np.uint8)
    return encode_h264(frames.repeat(6, axis=1).repeat(6, axis=2), fps=20.0)
