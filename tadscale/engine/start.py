"""What an RGB backbone starts from, if not from nothing: a trained network's backbone, or a file of published weights."""

import logging

import torch
from torch import Tensor

from tadscale import weights
from tadscale.data.storage import read_bytes
from tadscale.errors import UserError
from tadscale.models.backbones.base import BACKBONE, Backbone
from tadscale.models.backbones.published.loading import COLOURS
from tadscale.network import NetworkSpec, read_spec, read_weights

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
    match = weights.match_weights(backbone, _backbone_of(read_weights(url, spec)))
    if not match.complete:
        raise UserError(
            f"model.backbone.weights: the backbone in {url} is another one than this job's ({match.problems()}): use its "
            "settings, or another start"
        )
    _check_unseen(backbone, spec, url)
    backbone.load_state_dict(match.tensors)


def _check_unseen(backbone: Backbone, spec: NetworkSpec, url: str) -> None:
    """Refuse settings in which the weights fit and mean another network: a temporal shift that runs the other way."""
    with torch.device("meta"):
        theirs = spec.model.backbone.build(COLOURS).unseen
    if differing := {name: value for name, value in theirs.items() if backbone.unseen.get(name, value) != value}:
        wanted = " ".join(f"model.backbone.{name}={value}" for name, value in differing.items())
        raise UserError(
            f"model.backbone.weights: the backbone in {url} was trained with other settings, which its weights do not show "
            f"and with which they mean another network: set {wanted}"
        )


def _backbone_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(BACKBONE): value for name, value in tensors.items() if name.startswith(BACKBONE)}
