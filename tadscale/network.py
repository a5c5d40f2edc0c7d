"""What a trained network is: one description for training, evaluation and export, and its files.

A network is a folder: `network.json` says what it is, `weights.safetensors` holds its weights. Data alone: nothing in it is
executed. Stages leave one, later stages and evaluation read it, a registered model carries it.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal

import torch
from pydantic import PositiveInt, ValidationError
from torch import Tensor, nn

from tadscale.config import Config, choices
from tadscale.data.extractor_spec import ExtractorSpec
from tadscale.data.storage import StorageError, join, read_bytes, read_range, write_bytes
from tadscale.data.windows import WindowConfig
from tadscale.errors import UserError
from tadscale.metrics.nms import NmsConfig
from tadscale.models.backbones import BackboneConfig
from tadscale.models.backbones.temporal_shift import ShiftedSettings
from tadscale.models.config import ModelConfig
from tadscale.models.detector import Detector
from tadscale.models.heads.base import HeadSettings
from tadscale.models.pretext import PretextNetwork, backbone_state
from tadscale.models.student import Student, inference_state
from tadscale.weights import check_finite, digest, match_weights

Mode = Literal["pretrain", "teacher", "baseline", "conventional", "decomposed"]
"""How a network is trained: `teacher` reads motion, the others RGB; `decomposed` is a `Student`, `pretrain` a backbone that
predicts motion and colour, the others are `Detector`s."""
SPEC_NAME = "network.json"
WEIGHTS_NAME = "weights.safetensors"
_KEPT: dict[Mode, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "decomposed": inference_state,
    "pretrain": backbone_state,
}
_SHIFTED = {name for name, settings in choices(BackboneConfig).items() if issubclass(settings, ShiftedSettings)}
HEADER_BYTES = 100_000_000  # the most that safetensors makes
FORMAT_1_NAME = "model.json"  # of models that were registered before there was one description


class InferenceConfig(Config):
    """How detections are read off a trained network."""

    window_top_k: PositiveInt = 200
    """The most detections taken from one window, before suppression."""
    nms: NmsConfig = NmsConfig()
    """How the detections of a video's overlapping windows are thinned out; its `min_score` holds for windows, too. What a
    job leaves out of it is the head's choice: `method: none` for `tadtr`, the defaults below for the others."""

    def with_suppression_of(self, head: HeadSettings) -> "InferenceConfig":
        """The same, with the head's suppression in place of what was left to its default."""
        named = {name: getattr(self.nms, name) for name in self.nms.model_fields_set}
        return self.model_copy(update={"nms": head.suppression.model_copy(update=named)})


class NetworkSpec(Config):
    """Everything about a trained network but its weights."""

    format: Literal[2] = 2
    """Version of this description; raised when older code could not read it."""
    mode: Mode
    """How it was trained."""
    model: ModelConfig
    """Architecture."""
    in_channels: PositiveInt = 3
    """Channels of the motion that it reads (a teacher) or predicts (a pretext); 3 for a detector on RGB, or those of its
    features."""
    classes: tuple[str, ...]
    """Labels, by class index."""
    window: WindowConfig
    """How videos are sampled and cut; the same at training, at evaluation and in a registered model."""
    inference: InferenceConfig = InferenceConfig()
    """How detections are read off it."""
    motion_fingerprint: str = ""
    """The motion that the teacher sees (or saw, for a student), by content; empty where there was none."""
    manifest_digest: str = ""
    """The training data."""
    plan_digest: str = ""
    """Which window was trained at which step."""
    code_version: str = ""
    """The tadscale that trained it."""
    weights_sha256: str = ""
    """Digest of the weights' file; filled in when they are written."""
    extractor: ExtractorSpec | None = None
    """Of a registered network on features: what makes them of a video, where that is known. Its weights lie beside."""

    @property
    def reads_motion(self) -> bool:
        """Whether it takes motion, and not RGB."""
        return self.mode == "teacher"

    def build(self, *, for_training: bool = False) -> nn.Module:
        """The untrained network. A student's branch detector and a pretext's readings are there for training alone."""
        if self.mode == "pretrain":
            backbone = self.model.backbone
            return PretextNetwork(backbone, motion_channels=self.in_channels, with_readings=for_training)
        if self.mode == "decomposed":
            return Student(
                self.model,
                num_classes=len(self.classes),
                with_branch_head=for_training,
                in_channels=self.in_channels,
            )
        return Detector(self.model, in_channels=self.in_channels, num_classes=len(self.classes))


def save_network(url: str, spec: NetworkSpec, tensors: Mapping[str, Tensor]) -> NetworkSpec:
    """Write weights and description under `url`, the description last; twice the same network gives the same bytes.

    What serves training alone is left out.

    Returns:
        The description as written.

    Raises:
        UserError: the weights do not fit the description, or are not finite.
        StorageError: the storage cannot be reached or refuses.
    """
    from safetensors.torch import save

    kept = _KEPT.get(spec.mode, dict)(dict(tensors))
    kept = {name: kept[name].detach().cpu().contiguous() for name in sorted(kept)}
    load_weights(spec.build(), kept, "the weights")
    check_finite(kept, "the weights")
    data = save(kept)
    written = spec.model_copy(update={"weights_sha256": digest(data)})
    write_bytes(join(url, WEIGHTS_NAME), data)
    unsaid = {"extractor"} if spec.extractor is None else None  # so that earlier versions read what they can
    write_bytes(join(url, SPEC_NAME), (written.model_dump_json(indent=1, exclude=unsaid) + "\n").encode())
    return written


def spec_digest(url: str) -> str:
    """What a trained network is by content: the digest of its description, which holds that of its weights.

    Raises:
        UserError: there is none.
        StorageError: the storage cannot be reached.
    """
    return digest(_read_first(url, (SPEC_NAME, FORMAT_1_NAME))[0])


def read_spec(url: str, sha256: str = "") -> NetworkSpec:
    """The description of a trained network.

    Args:
        url: the network's folder.
        sha256: what `spec_digest` gave when it was trained, to be verified where it is known.

    Raises:
        UserError: there is none, it is another than was trained, or not one that this version understands.
        StorageError: the storage cannot be reached.
    """
    data, where = _read_first(url, (SPEC_NAME, FORMAT_1_NAME))
    if sha256 and digest(data) != sha256:
        raise UserError(
            f"{where} has digest {digest(data)[:12]}..., its stage left one of {sha256[:12]}...: it was damaged or replaced "
            "since; restore it, or remove the stage's folder and run the job again"
        )
    try:
        document = json.loads(data)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}); the copy may be incomplete, fetch the model again") from error
    version = document.get("format") if isinstance(document, dict) else None
    if version not in (1, 2):
        raise UserError(
            f"{where} has format {version!r}, this tadscale reads formats 1 and 2: use the version that wrote it"
        )
    try:
        return NetworkSpec.model_validate(_with_its_shift(_from_format_1(document) if version == 1 else document))
    except ValidationError as error:
        raise UserError(f"{where} {_not_understood(error)}") from error
    except KeyError as error:
        raise UserError(f"{where} does not describe a network that this tadscale knows: it has no {error}") from error


def read_weights(url: str, spec: NetworkSpec) -> dict[str, Tensor]:
    """A trained network's tensors, their bytes verified before they are parsed.

    Raises:
        UserError: they are missing, are not those that the description names, or are not finite.
        StorageError: the storage cannot be reached.
    """
    from safetensors.torch import load

    data, where = _read_first(url, (WEIGHTS_NAME,))
    found = digest(data)
    if found != spec.weights_sha256:
        raise UserError(
            f"{where} has digest {found[:12]}..., the network's description names {spec.weights_sha256[:12]}...: the file "
            "is damaged or belongs to another model; fetch the model again, or run the stage that made it again"
        )
    tensors = _renamed(load(data))
    check_finite(tensors, where)
    return tensors


def misfit(url: str) -> str:
    """What of a trained network's weights does not fit the network that its description makes here; empty where all does.

    Names and shapes are compared, no weight is read. The settings being the same, the code is another.

    Raises:
        UserError: there is no network, or its weights are damaged.
        StorageError: the storage cannot be reached.
    """
    where = join(url, WEIGHTS_NAME)
    built = read_spec(url).model_dump_json(include={"mode", "model", "in_channels", "classes", "window"})
    try:
        size = int.from_bytes(read_range(where, 0, 8), "little")  # of the header, which is JSON
        header = json.loads(read_range(where, 8, min(size, HEADER_BYTES)))
    except ValueError as error:
        raise UserError(f"{where} is damaged: it does not begin as a file of weights does; fetch it again") from error
    shapes = {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
    stored = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return match_weights(_expected(built), _renamed(stored)).problems()


@lru_cache(maxsize=64)
def _expected(spec_json: str) -> dict[str, Tensor]:
    """The state of a network on the meta device, by its description: cells of a grid have few."""
    with torch.device("meta"):
        return NetworkSpec.model_validate_json(spec_json).build().state_dict()


def load_network(url: str) -> tuple[nn.Module, NetworkSpec]:
    """A trained network on the CPU, in eval mode, without gradients.

    Raises:
        UserError: a file is missing or damaged, or the weights do not fit the architecture.
        StorageError: the storage cannot be reached.
    """
    spec = read_spec(url)
    network = spec.build()
    load_weights(network, read_weights(url, spec), join(url, WEIGHTS_NAME))
    return network.eval().requires_grad_(False), spec


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a network; every name and shape must fit.

    Raises:
        UserError: they do not; `source` is what the weights are called in the message.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        says = match_weights(network, tensors).problems() or str(error).strip().rstrip(".")
        raise UserError(
            f"{source} does not fit the architecture ({says}): the mode, the model or the classes are not those of the "
            "training run, or the code that makes the network was changed since"
        ) from error


def _read_first(url: str, names: tuple[str, ...]) -> tuple[bytes, str]:
    """The first of these files that is there, and where."""
    for name in names:
        try:
            return read_bytes(join(url, name)), join(url, name)
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
    raise UserError(
        f"{url} is no trained network: it has no {names[0]}; the copy is incomplete or the path is wrong, fetch it again"
    )


def _not_understood(error: ValidationError) -> str:
    """What of a description is foreign: heads and backbones by name, or else every setting."""
    faults = error.errors(include_url=False)
    unknown = [fault for fault in faults if fault["type"] == "union_tag_invalid"]
    if unknown:
        parts = " and ".join(f"the {fault['loc'][-1]} `{fault['ctx']['tag']}`" for fault in unknown)
        return (
            f"describes a network with {parts}, which this tadscale does not have: use the checkout that trained it; or, of "
            "a registered model, mlflow.pyfunc.load_model in a process that has not imported tadscale: it carries its code"
        )
    said = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    return f"does not describe a network that this tadscale knows ({said}): use the version that wrote it"


def _from_format_1(document: dict[str, Any]) -> dict[str, Any]:
    """The description of a model that was registered as format 1: other names, and the head's settings one level deeper."""
    network = dict(document.pop("network"))
    head = network["head"]
    network["head"] = {"name": head["name"], **head[head["name"]]}
    named = {name: value for name, value in document.items() if value is not None}
    return named | {"format": 2, "model": network}


def _with_its_shift(document: dict[str, Any]) -> dict[str, Any]:
    """A description from before `shift_first` was a setting: temporal shift went the other way round then."""
    backbone = document["model"]["backbone"]
    if "shift_first" in backbone or backbone.get("name") not in _SHIFTED:
        return document
    shifting = {"shift_first": "previous"}
    return document | {"model": document["model"] | {"backbone": backbone | shifting}}


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Format 1 called the student's branches `motion` and `appearance`."""
    old = {"motion": "motion_branch", "appearance": "appearance_branch"}
    parts = {name: name.split(".", 1) for name in tensors}
    return {".".join([old.get(parts[name][0], parts[name][0]), *parts[name][1:]]): t for name, t in tensors.items()}
