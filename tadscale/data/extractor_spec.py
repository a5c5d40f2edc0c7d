"""What made rows of RGB features of videos, said so that it can be done again: a backbone here, and how videos are sampled.

Two files stand beside features whose making is known, in the folder of `.npy` files and among their shards alike:
`extractor.json`, which a manifest of shards holds itself, and `extractor.safetensors`, the backbone's weights.
"""

import hashlib
from typing import Any, Literal

from pydantic import PositiveInt, ValidationError

from tadscale.config import Config
from tadscale.data.features import FeatureRows
from tadscale.data.json_text import parse_json
from tadscale.data.storage import StorageError, join, read_bytes, read_text
from tadscale.errors import UserError

EXTRACTOR_NAME = "extractor.json"
EXTRACTOR_WEIGHTS_NAME = "extractor.safetensors"


class ExtractorSpec(Config):
    """A frozen backbone, and what it sees of a video."""

    format: Literal[1] = 1
    """Version of this description."""
    rows: FeatureRows
    """What it makes; their `video_fps` is the rate at which videos are sampled."""
    frames: PositiveInt
    """Sampled frames in a chunk, of which the middle half is kept."""
    height: PositiveInt
    """Pixels of a picture."""
    width: PositiveInt
    """Pixels of a picture."""
    resize: Literal["stretch", "crop"]
    """How pictures of another shape are made to fit, as `data.window.resize` has it."""
    backbone: dict[str, Any]
    """Its settings, as `model.backbone` has them; they decide also how pictures are normalised."""
    weights_url: str = ""
    """Where its weights came from, for people: nothing is read there. A registered model leaves it out."""
    weights_sha256: str
    """Digest of what lay there."""
    sha256: str
    """Digest of `extractor.safetensors`."""

    def without_place(self) -> "ExtractorSpec":
        """The same, wherever its weights came from."""
        return self.model_copy(update={"weights_url": ""})


def read_extractor_spec(url: str) -> ExtractorSpec | None:
    """What made the features in a folder, where it says so.

    Raises:
        UserError: it says something that this version does not understand.
        StorageError: the storage cannot be reached.
    """
    at = join(url, EXTRACTOR_NAME)
    text = read_text(at)
    if not text:
        return None
    try:
        return ExtractorSpec.model_validate(parse_json(text.encode(), at))
    except ValidationError as error:
        raise UserError(
            f"{at} does not describe an extractor that this tadscale knows ({error.errors()[0]['msg']}): use the version "
            "that wrote it, or delete it: the features are then such as others publish"
        ) from error


def read_extractor_weights(url: str, spec: ExtractorSpec) -> bytes:
    """The file of an extractor's weights, verified.

    Raises:
        UserError: it is not there, or is another than the description names.
        StorageError: the storage cannot be reached.
    """
    at = join(url, EXTRACTOR_WEIGHTS_NAME)
    made = f"it was made of {spec.weights_url or 'weights'} with digest {spec.weights_sha256[:12]}..."
    try:
        data = read_bytes(at)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UserError(f"{at} is missing ({made}): copy it from where the features were extracted to") from error
        raise
    if (found := hashlib.sha256(data).hexdigest()) != spec.sha256:
        raise UserError(
            f"{at} has digest {found[:12]}..., and features beside it were computed with {spec.sha256[:12]}... ({made}): "
            "it was damaged or replaced; copy it anew from where the features were extracted to"
        )
    return data
