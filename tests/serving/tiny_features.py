"""A detector of features, untrained, and the backbone that makes them."""

from pathlib import Path

import torch

from tadscale.data.extractor_spec import EXTRACTOR_NAME, EXTRACTOR_WEIGHTS_NAME, ExtractorSpec
from tadscale.data.windows import WindowConfig
from tadscale.metrics.nms import NmsConfig
from tadscale.models.backbones.base import BackboneSettings
from tadscale.models.backbones.features import FeaturesConfig
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.network import InferenceConfig, NetworkSpec
from tadscale.serving.feature_extractor import describe_extractor

PICTURES = WindowConfig(frames=16, stride_frames=8, fps=10.0, height=32, width=32)


def made(
    settings: BackboneSettings | None = None, window: WindowConfig = PICTURES, seed: int = 0
) -> tuple[ExtractorSpec, bytes]:
    """An extractor, by default of 16 channels every second frame."""
    torch.manual_seed(seed)
    settings = settings or Small3dConfig(width=4)
    return describe_extractor(
        settings, settings.build(3), window, weights_url="s3://somewhere/start", weights_sha256="a"
    )


def laid(folder: Path, spec: ExtractorSpec, weights: bytes) -> Path:
    """Its two files, as they stand beside features."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EXTRACTOR_NAME).write_text(spec.model_dump_json())
    (folder / EXTRACTOR_WEIGHTS_NAME).write_bytes(weights)
    return folder


def detector(extractor: ExtractorSpec, *, carries: bool = True) -> tuple[NetworkSpec, dict[str, torch.Tensor]]:
    """A student of such features, and its weights."""
    rows = extractor.rows
    head = ActionFormerConfig(dim=8, levels=2, heads=2, reach=2)
    spec = NetworkSpec(
        mode="decomposed",
        model=ModelConfig(backbone=FeaturesConfig(width=8), dim=8, head=head),
        in_channels=rows.channels,
        classes=("jump", "run"),
        window=WindowConfig(frames=12, stride_frames=6, fps=rows.fps, features=rows),
        inference=InferenceConfig(window_top_k=30, nms=NmsConfig(top_k=20)),
        extractor=extractor.without_place() if carries else None,
    )
    torch.manual_seed(1)
    return spec, spec.build(for_training=True).state_dict()
