"""What an RGB backbone starts from, if not from nothing: a trained network's backbone, or a file of published weights."""

import logging

from torch import Tensor

from tadscale import weights
from tadscale.data.storage import read_bytes
from tadscale.errors import UserError
from tadscale.models.backbones.base import Backbone
from tadscale.network import NetworkSpec, read_spec, read_weights

BACKBONE = "backbone."
FILES = (*weights.PICKLES, weights.SAFETENSORS)

log = logging.getLogger(__name__)


def is_published(url: str | None) -> bool:
    """Whether a start is a file that others published, and not the folder of a network that was trained here."""
    return url is not None and url.endswith(FILES)


def start_digest(url: str) -> str:
    """What a start is by content, wherever it lies: the SHA-256 of its weights' file.

    Raises:
        UserError: there is no network in the folder.
        StorageError: the storage cannot be reached, or the file is not there.
    """
    return weights.digest(read_bytes(url)) if is_published(url) else read_spec(url).weights_sha256


def load_start(backbone: Backbone, url: str) -> None:
    """Put a start into a backbone.

    Args:
        backbone: of an untrained network.
        url: the folder of a trained network on RGB, or a file of published weights.

    Raises:
        UserError: the weights are damaged, or are not this backbone's.
        StorageError: the storage cannot be reached.
    """
    if is_published(url):
        where = f"model.backbone.weights {url}"
        match = backbone.load_published(weights.read_weights(read_bytes(url), url, where).tensors, where)
        log.info("%s: %d tensors read, left out: %s", where, len(match.tensors), ", ".join(match.left_out) or "none")
        return
    spec = read_spec(url)
    if spec.reads_motion:
        raise UserError(
            f"model.backbone.weights: {url} was trained as {spec.mode}, on motion: an RGB backbone cannot start from it"
        )
    _check_shift(backbone, spec, url)
    match = weights.match_weights(backbone, _backbone_of(read_weights(url, spec)))
    if not match.complete:
        raise UserError(
            f"model.backbone.weights: the backbone in {url} is another one than this job's ({match.problems()}): use its "
            "settings, or another start"
        )
    backbone.load_state_dict(match.tensors)


def _check_shift(backbone: Backbone, spec: NetworkSpec, url: str) -> None:
    """Weights fit either direction of temporal shift, and mean another network in the other."""
    theirs, ours = (getattr(which, "shift_first", None) for which in (spec.model.backbone, backbone))
    if theirs and ours and theirs != ours:
        raise UserError(
            f"model.backbone.weights: the backbone in {url} takes its first channels from the {theirs} frame, this job's "
            f"from the {ours} one: set model.backbone.shift_first={theirs}"
        )


def _backbone_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(BACKBONE): value for name, value in tensors.items() if name.startswith(BACKBONE)}
