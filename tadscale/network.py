"""A stage's trained network as files: what later stages read, and what is packaged for the registry."""

import hashlib

import safetensors.torch
from pydantic import ValidationError
from torch import Tensor, nn

from tadscale.config import Config
from tadscale.data.storage import join, read_bytes, write_bytes
from tadscale.data.windows import WindowConfig
from tadscale.engine.steps import Mode
from tadscale.flow.motion import MotionConfig, motion_channels
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector
from tadscale.models.student import Student, inference_state

SPEC_NAME = "network.json"
WEIGHTS_NAME = "weights.safetensors"


class NetworkSpec(Config):
    """Everything about a trained network but its weights."""

    mode: Mode
    """How it was trained; `teacher` reads motion, the others RGB."""
    model: ModelConfig
    """Architecture."""
    classes: tuple[str, ...]
    """Labels, by class index."""
    window: WindowConfig
    """How its videos were sampled and cut."""
    motion: MotionConfig
    """What the teacher sees (or saw, for a student)."""
    motion_fingerprint: str = ""
    """What that is by content; empty where there was no motion."""
    plan_digest: str
    """Which window was trained at which step."""
    manifest_digest: str
    """The training data."""
    weights_sha256: str = ""
    """Digest of the weights' file; filled in when they are written."""


def build_network(mode: Mode, model: ModelConfig, num_classes: int, motion: MotionConfig) -> nn.Module:
    """The untrained network of a mode, as it is trained."""
    if mode == "decomposed":
        return Student(model, num_classes=num_classes)
    in_channels = motion_channels(motion) if mode == "teacher" else 3
    return Detector(model, in_channels=in_channels, num_classes=num_classes)


def save_network(url: str, spec: NetworkSpec, tensors: dict[str, Tensor]) -> None:
    """Write weights and description under `url`, the description last. A student's branch detector is left out."""
    kept = inference_state(tensors) if spec.mode == "decomposed" else tensors
    data = safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in kept.items()})
    write_bytes(join(url, WEIGHTS_NAME), data)
    written = spec.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    write_bytes(join(url, SPEC_NAME), written.model_dump_json(indent=1).encode())


def read_spec(url: str) -> NetworkSpec:
    """The description of a trained network. Raises `ValueError` if it is not one, `StorageError` if it is not there."""
    where = join(url, SPEC_NAME)
    try:
        return NetworkSpec.model_validate_json(read_bytes(where))
    except ValidationError as error:
        raise ValueError(f"{where} does not describe a network that this tadscale knows: {error}") from error


def load_network(url: str) -> tuple[nn.Module, NetworkSpec]:
    """A trained network on the CPU, in eval mode, its weights verified before they are parsed.

    Raises:
        ValueError: the weights are not those that the description names.
        StorageError: a file is missing or cannot be reached.
    """
    spec = read_spec(url)
    data = read_bytes(join(url, WEIGHTS_NAME))
    if hashlib.sha256(data).hexdigest() != spec.weights_sha256:
        raise ValueError(
            f"{join(url, WEIGHTS_NAME)}: its digest is not the one in {SPEC_NAME}: the file is damaged, or writing was "
            "interrupted; run the stage again"
        )
    if spec.mode == "decomposed":
        network: nn.Module = Student(spec.model, num_classes=len(spec.classes), with_branch_head=False)
    else:
        network = build_network(spec.mode, spec.model, len(spec.classes), spec.motion)
    network.load_state_dict(safetensors.torch.load(data))
    return network.eval().requires_grad_(False), spec
