"""Published weights: files of tensors that others made, read without running what they hold, and fitted to a network.

What is read: `.safetensors`, and pickles by torch's own weights-only reader. Training code publishes its checkpoints as they
are, so a state dict is looked for under the usual keys, and prefixes that wrappers leave are taken off.
"""

import argparse
import hashlib
import io
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tadscale.errors import UserError

PICKLES = (".pth", ".pt", ".pyth")
SAFETENSORS = ".safetensors"
STATE_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "module")
"""Where training code puts the state dict in a checkpoint. Looked into in this order, one in another."""
PREFIXES = ("module.", "model.", "backbone.")
"""What data parallelism and frameworks put before every name."""
COUNTER = "num_batches_tracked"
"""Counts batch norm's batches. Files from before torch 0.4.1 lack it, and nothing reads it at inference."""
HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]
"""What checkpoints hold beside tensors and plain values (VideoMAE, TSP: the options of their training). Opening one runs no
code: it takes attributes, no more."""
NAMED_PROBLEMS = 3
PARAMETER = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
"""Pattern of the last part of a tensor's name."""
Rules = tuple[tuple[str, str | None], ...]
"""Pattern of a whole name -> the name that it is given, None for what is left out: the first that matches holds."""
# What torch's reader raises at files with some bytes changed (6,000 of them), and safetensors' one error.
DAMAGE = (
    *(safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError),
    *(LookupError, ValueError, AssertionError, TypeError, AttributeError),
)


class Weights(NamedTuple):
    """What a file of weights holds."""

    tensors: dict[str, Tensor]
    """By the file's own names, prefixes apart; on the CPU, in the file's dtypes."""
    sha256: str
    """Digest of the whole file."""


def digest(data: bytes) -> str:
    """SHA-256 of a file's bytes, in hexadecimal: what tells weights apart, wherever the file lies."""
    return hashlib.sha256(data).hexdigest()


def read_weights(data: bytes, name: str, where: str) -> Weights:
    """The tensors in the bytes of a `.safetensors`, `.pth`, `.pt` or `.pyth` file.

    Args:
        data: the whole file, from whatever storage.
        name: the file's name or path, whose ending says how to read it.
        where: how errors name the file, the setting that gave it first: `motion.raft.weights raft.pth`.

    Raises:
        UserError: another kind of file, a damaged one, one that holds more than plain data, or no dictionary of tensors.
    """
    suffix = PurePath(name).suffix
    if suffix not in (*PICKLES, SAFETENSORS):
        raise UserError(
            f"{where}: the name of a file of weights ends in {', '.join(PICKLES)} or {SAFETENSORS}; give such a file"
        )
    try:
        content = safetensors.torch.load(data) if suffix == SAFETENSORS else _unpickle(data)
    except _Refused as error:
        raise UserError(
            f"{where} cannot be read as {suffix}: it holds {error}, and a pickle of more than tensors and plain values may "
            "run code when it is opened; where you trust it, save its state_dict() alone, best as .safetensors"
        ) from error
    except DAMAGE as error:
        raise UserError(
            f"{where} cannot be read as {suffix}: it is damaged, cut short or another kind of file; copy it again"
        ) from error
    tensors = without_prefixes(_state_dict(content, where))
    check_finite(tensors, where)
    return Weights(tensors, digest(data))


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse numbers that are none: a network with them finds nothing, and says nothing.

    Raises:
        UserError: a tensor holds an infinite number or none at all; `where` is what the weights are called in the message.
    """
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        more = f" and {len(broken) - NAMED_PROBLEMS} more" if len(broken) > NAMED_PROBLEMS else ""
        raise UserError(
            f"{where}: {', '.join(broken[:NAMED_PROBLEMS])}{more} hold infinite numbers or NaN: the training diverged, or "
            "the file was made of one that had; train anew with a lower optim.lr, or take other weights"
        )


def without_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the `PREFIXES` that all names share, whatever their order and number.

    A prefix of some names only is a part of the network, and stays: whoever knows the layout renames (`match_weights`).
    """
    names = list(tensors)
    while names and (shared := next((p for p in PREFIXES if all(name.startswith(p) for name in names)), None)):
        names = [name.removeprefix(shared) for name in names]
    return dict(zip(names, tensors.values(), strict=True))


def renamed(name: str, rules: Rules) -> str | None:
    """What rules make of a file's name; one that no rule knows comes back as it is."""
    for pattern, other in rules:
        if match := re.fullmatch(pattern, name):
            return None if other is None else match.expand(other)
    return name


@dataclass(frozen=True)
class Match:
    """How a file's tensors fit a network."""

    tensors: dict[str, Tensor]
    """What fits, by the network's names."""
    missing: tuple[str, ...]
    """Names of the network that nothing in the file has."""
    unexpected: tuple[str, ...]
    """Names in the file that the network does not have."""
    misshapen: tuple[str, ...]
    """`NAME is [3], not [128]`, by the network's names."""
    left_out: tuple[str, ...]
    """Names in the file that the renaming left out on purpose, such as a classifier's."""

    @property
    def complete(self) -> bool:
        """Whether the network gets all its tensors and the file has no other."""
        return not (self.missing or self.unexpected or self.misshapen)

    def problems(self, limit: int = NAMED_PROBLEMS) -> str:
        """What does not fit, for an error: the first few by name, and how many more; empty where all fits."""
        lines = [f"{name} is missing" for name in self.missing]
        lines += [f"{name} is unknown" for name in self.unexpected]
        lines += self.misshapen
        more = f" and {len(lines) - limit} more" if len(lines) > limit else ""
        return ", ".join(lines[:limit]) + more


def match_weights(
    expected: nn.Module | Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    rename: Callable[[str], str | None] = lambda name: name,
) -> Match:
    """Fit tensors to a network by name and shape. Nothing is loaded: the caller decides what may be missing.

    Args:
        expected: the network, or its state dict; on the meta device it costs nothing.
        tensors: by the file's names.
        rename: a file's name to the network's, None for what is left out.

    Raises:
        UserError: two of the file's tensors are given one name.
    """
    wanted = expected.state_dict() if isinstance(expected, nn.Module) else expected
    names = {name: rename(name) for name in tensors}  # the file's to the network's
    origin = _origin(names)
    present = {name: tensors[source] for name, source in origin.items() if name in wanted}
    other = {name for name in present if present[name].shape != wanted[name].shape}
    return Match(
        tensors={name: tensor for name, tensor in present.items() if name not in other},
        missing=tuple(name for name in wanted if name not in present and not name.endswith(COUNTER)),
        unexpected=tuple(source for name, source in origin.items() if name not in wanted),
        misshapen=tuple(
            f"{name} is {list(present[name].shape)}, not {list(wanted[name].shape)}" for name in wanted if name in other
        ),
        left_out=tuple(source for source, name in names.items() if name is None),
    )


class _Refused(Exception):
    """The weights-only reader met something else than tensors; its text is what that was."""


def _unpickle(data: bytes) -> Any:
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's own text advises to open the file with code allowed: only the name in it is passed on.
        if named := re.search(r"Unsupported (?:global|class)[^\n]*?GLOBAL (\S+)", str(error)):
            raise _Refused(named[1]) from error
        raise


def _state_dict(content: Any, where: str) -> dict[str, Tensor]:
    """The dictionary of tensors in what a file holds, wherever in it that lies."""
    while isinstance(content, Mapping) and (
        key := next((k for k in STATE_KEYS if isinstance(content.get(k), Mapping)), None)
    ):
        content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise UserError(
            f"{where} is no dictionary of tensors, and has none under {', '.join(STATE_KEYS)}: save a network's "
            "state_dict() alone"
        )
    return dict(content)


def _origin(names: Mapping[str, str | None]) -> dict[str, str]:
    """The network's name of each tensor to the file's."""
    origin: dict[str, str] = {}
    for source, name in names.items():
        if name is not None and origin.setdefault(name, source) != source:
            raise UserError(
                f"{origin[name]} and {source} would both be the network's {name}: the file mixes two layouts of names, "
                "or is not of the layout it was taken for"
            )
    return origin
