"""Training state as files: safetensors with digests, and a marker that is written last."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors.torch
from torch import Tensor

from tadscale.data.storage import StorageError, join, read_bytes, write_bytes
from tadscale.engine.engine import Diverged, TrainState
from tadscale.errors import UserError

META_NAME = "meta.json"
COMPLETE_NAME = "COMPLETE"
FORMAT = 1
GROUPS = ("model", "exp_avg", "exp_avg_sq", "ema")
"""One file each: who wants the averaged weights alone reads a quarter of the checkpoint."""


class CorruptState(UserError):
    """A stored state is incomplete or damaged; the one before it should be used."""


def save_state(url: str, state: TrainState, meta: Mapping[str, Any]) -> None:
    """Write a state into the folder `url`: `GROUP.safetensors`, then `meta.json`, then `COMPLETE`.

    `meta.json` holds the digest of every tensor file, `COMPLETE` that of `meta.json`: a folder without the marker, or with
    one byte changed, is not read. No pickle anywhere.

    Args:
        url: folder of this one state; files of an earlier, incomplete attempt are overwritten.
        state: what to write.
        meta: what to keep beside it, JSON values; comes back from `load_state`.

    Raises:
        Diverged: a number is not finite. Nothing is written: whoever resumed from it would diverge again.
        StorageError: the storage cannot be reached or refuses.
    """
    _check_finite(state)
    digests = {}
    for group in GROUPS:
        data = safetensors.torch.save(_group(state.tensors, group))
        digests[group] = hashlib.sha256(data).hexdigest()
        write_bytes(join(url, f"{group}.safetensors"), data)
    document = {"format": FORMAT, "step": state.step, "sha256": digests, "meta": dict(meta)}
    text = json.dumps(document, indent=1, sort_keys=True).encode()
    write_bytes(join(url, META_NAME), text)
    write_bytes(join(url, COMPLETE_NAME), hashlib.sha256(text).hexdigest().encode())


def load_state(url: str, groups: Sequence[str] = GROUPS) -> tuple[TrainState, dict[str, Any]]:
    """Read a state back, every byte verified before it is parsed.

    Args:
        url: folder that `save_state` wrote.
        groups: which parts to read.

    Returns:
        The state, and the `meta` it was saved with.

    Raises:
        CorruptState: the marker is missing, a file is missing, or a digest differs.
        StorageError: the storage cannot be reached.
    """
    document = _read_document(url)
    tensors: dict[str, Tensor] = {}
    for group in groups:
        data = _read_verified(join(url, f"{group}.safetensors"), document["sha256"][group])
        tensors |= {f"{group}/{name}": value for name, value in safetensors.torch.load(data).items()}
    return TrainState(step=document["step"], tensors=tensors), document["meta"]


def read_meta(url: str) -> dict[str, Any]:
    """The `meta` of a state, without its tensors. Raises as `load_state` does."""
    return _read_document(url)["meta"]


def _read_document(url: str) -> dict[str, Any]:
    marker = _read_existing(join(url, COMPLETE_NAME)).decode("ascii", "replace").strip()
    document = json.loads(_read_verified(join(url, META_NAME), marker))
    if document["format"] != FORMAT:
        raise UserError(
            f"{url}: state of format {document['format']}, this version reads {FORMAT}: "
            "use the version of tadscale that wrote it, or start the run under another name"
        )
    return document


def _check_finite(state: TrainState) -> None:
    broken = [name for name, value in state.tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise Diverged(
            f"step {state.step}: {len(broken)} of {len(state.tensors)} tensors are not finite ({', '.join(broken[:3])}): no "
            "checkpoint is written, the one before is good. Lower optim.lr or raise optim.warmup_epochs."
        )


def _group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    prefix = f"{group}/"
    return {
        name.removeprefix(prefix): value.detach().cpu().contiguous()
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _read_verified(url: str, sha256: str) -> bytes:
    data = _read_existing(url)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CorruptState(f"{url}: its digest is not the one recorded when it was written: the file is damaged")
    return data


def _read_existing(url: str) -> bytes:
    try:
        return read_bytes(url)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CorruptState(
                f"{url}: missing: the checkpoint was never completed, or part of it was deleted"
            ) from error
        raise
