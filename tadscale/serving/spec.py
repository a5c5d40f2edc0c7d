"""What an exported detector is: `model.json` beside `weights.safetensors`. Data alone: nothing here is executed."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from torch import Tensor, nn

from tadscale.config import Config
from tadscale.data.windows import WindowConfig
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector
from tadscale.models.student import Student
from tadscale.serving.inference import InferenceConfig

SPEC_NAME = "model.json"
WEIGHTS_NAME = "weights.safetensors"
ExportMode = Literal["baseline", "conventional", "decomposed"]


class DetectorSpec(Config):
    """All that is needed to run a detector besides its weights, and where it comes from."""

    format: Literal[1] = 1
    """Version of this file; raised when older code could not read it."""
    mode: ExportMode
    """How it was trained. `decomposed` is the student without its branch detector, the others are plain RGB detectors."""
    network: ModelConfig
    """Architecture."""
    classes: tuple[str, ...]
    """Labels, by class index."""
    window: WindowConfig
    """How videos are sampled and cut; the same at training, at evaluation and here."""
    inference: InferenceConfig = InferenceConfig()
    """How detections are read off the network."""
    weights_sha256: str = ""
    """Digest of `weights.safetensors`; filled in when the detector is written."""
    motion_fingerprint: str | None = None
    """The motion that the teacher saw; None where nothing was distilled."""
    manifest_digest: str | None = None
    """The training data."""
    plan_digest: str | None = None
    """Which window was trained at which step."""
    code_version: str | None = None
    """The tadscale that trained it."""


def build_network(mode: ExportMode, network: ModelConfig, num_classes: int) -> nn.Module:
    """The untrained network of an export: for `decomposed` the student without the branch detector."""
    if mode == "decomposed":
        return Student(network, num_classes=num_classes, with_branch_head=False)
    return Detector(network, in_channels=3, num_classes=num_classes)


def read_spec(directory: Path) -> DetectorSpec:
    """Read `model.json` of an exported detector.

    Raises:
        ValueError: there is none, or it is not one that this version understands.
    """
    path = directory / SPEC_NAME
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{directory} is no exported detector: it has no {SPEC_NAME}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); the copy may be incomplete, fetch the model again") from error
    if not isinstance(document, dict) or document.get("format") != 1:
        version = document.get("format") if isinstance(document, dict) else None
        raise ValueError(f"{path} has format {version!r}, this tadscale reads format 1: use the version that wrote it")
    try:
        return DetectorSpec.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} does not describe a detector that this tadscale knows: {error}") from error


def load_network(directory: Path, spec: DetectorSpec) -> nn.Module:
    """The trained network of an exported detector, on the CPU, in eval mode.

    Raises:
        ValueError: the weights are missing, are not those that `model.json` names, or do not fit the architecture.
    """
    from safetensors.torch import load  # late: reading a spec needs no weights

    path = directory / WEIGHTS_NAME
    if not path.is_file():
        raise ValueError(f"{directory} has no {WEIGHTS_NAME}; the copy is incomplete, fetch the model again")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != spec.weights_sha256:
        raise ValueError(
            f"{path} has digest {digest[:12]}..., {SPEC_NAME} names {spec.weights_sha256[:12]}...: "
            "the file is damaged or belongs to another model; fetch the model again"
        )
    network = build_network(spec.mode, spec.network, len(spec.classes))
    load_weights(network, load(data), str(path))
    return network.eval()


def load_weights(network: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Put weights into a network; every name and shape must fit.

    Raises:
        ValueError: they do not; `source` is what the weights are called in the message.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{source} does not fit the architecture: {error}. Check that mode, network and classes are those of the "
            "training run."
        ) from error
