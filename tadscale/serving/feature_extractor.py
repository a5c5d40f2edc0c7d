"""The backbone that made a network's features, at work on raw video: loaded from the files beside them, or in a package."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from tadscale.data.extractor_spec import EXTRACTOR_WEIGHTS_NAME, ExtractorSpec, read_extractor_weights
from tadscale.data.features import FeatureRows
from tadscale.data.storage import join
from tadscale.data.stored import EncodedVideo
from tadscale.data.windows import WindowConfig, video_frames
from tadscale.errors import UserError
from tadscale.models.backbones import BackboneConfig
from tadscale.models.backbones.base import Backbone, BackboneSettings
from tadscale.network import load_weights
from tadscale.serving.extract import stream_rows
from tadscale.weights import check_finite, digest

NOT_ITS_MAKE = {"weights", "checkpoint"}
"""Settings of a backbone that change nothing of what it computes."""


class FeatureExtractor:
    """Makes of a video the rows that `tadscale data extract` makes of it.

    Args:
        spec: what it is.
        backbone: with its weights.
        device: where it is computed.
    """

    def __init__(self, spec: ExtractorSpec, backbone: Backbone, device: str) -> None:
        self.rows = spec.rows
        self._backbone = backbone.to(device).eval().requires_grad_(False)
        self._window, self._device = _window(spec), device

    def count(self, duration_s: float) -> int:
        """How many rows a video of that length has."""
        return -(-int(video_frames(duration_s, self._window.fps)) // self.rows.stride)

    def stream(self, video: EncodedVideo, duration_s: float) -> Iterator[NDArray[np.float32]]:
        """The rows of a video, one `[C]` after the other. Raises `DataError` where it cannot be decoded."""
        for chunk in stream_rows(self._backbone, video, duration_s, self._window, device=self._device):
            yield from chunk


def describe_extractor(
    settings: BackboneSettings, backbone: Backbone, window: WindowConfig, *, weights_url: str, weights_sha256: str
) -> tuple[ExtractorSpec, bytes]:
    """An extractor's description, and the file of its weights.

    Args:
        settings: what the backbone was built by.
        backbone: with its weights.
        window: how videos are sampled; its length is that of a chunk.
        weights_url: where the weights came from.
        weights_sha256: digest of what lay there.

    Raises:
        UserError: a weight is not finite.
    """
    from safetensors.torch import save

    state = {name: value.cpu().contiguous() for name, value in sorted(backbone.state_dict().items())}
    check_finite(state, weights_url)
    data = save(state)
    rows = FeatureRows(
        channels=backbone.out_channels, stride=backbone.stride, offset=backbone.offset, video_fps=window.fps
    )
    spec = ExtractorSpec(
        rows=rows,
        frames=window.frames,
        height=window.height,
        width=window.width,
        resize=window.resize,
        backbone=settings.model_dump(mode="json", exclude=NOT_ITS_MAKE),
        weights_url=weights_url,
        weights_sha256=weights_sha256,
        sha256=digest(data),
    )
    return spec, data


def load_extractor(url: str, spec: ExtractorSpec, device: str = "cpu") -> FeatureExtractor:
    """An extractor by its description, with the weights in a folder.

    Raises:
        UserError: the weights are missing or others, or this version's code makes another network of the description.
        StorageError: the storage cannot be reached.
    """
    from safetensors.torch import load

    where = join(url, EXTRACTOR_WEIGHTS_NAME)
    try:
        settings = TypeAdapter[BackboneSettings](BackboneConfig).validate_python(spec.backbone)
    except ValidationError as error:
        raise UserError(
            f"{where} is of a backbone that this tadscale does not know ({error.errors()[0]['msg']}): use the version that "
            "extracted the features"
        ) from error
    backbone = settings.build(3)
    made = backbone.out_channels, backbone.stride, backbone.offset
    if made != (spec.rows.channels, spec.rows.stride, spec.rows.offset):
        raise UserError(
            f"{where}: the backbone {settings.name} makes rows of (channels, stride, offset) {made} here, and the features "
            f"are {spec.rows}: use the version that extracted them"
        )
    load_weights(backbone, load(read_extractor_weights(url, spec)), where)
    return FeatureExtractor(spec, backbone, device)


def _window(spec: ExtractorSpec) -> WindowConfig:
    return WindowConfig(
        frames=spec.frames, fps=spec.rows.video_fps, height=spec.height, width=spec.width, resize=spec.resize
    )
