"""A published file's tensors put into a backbone that bears the layouts' canonical names."""

from collections.abc import Mapping

from torch import Tensor, nn

from tadscale.errors import UserError
from tadscale.models.backbones.published.adapt import adapt_input_channels
from tadscale.models.backbones.published.layouts import Layout, detect_layout
from tadscale.weights import Match, match_weights

COLOURS = 3  # input channels of what was trained on pictures


def load_canonical(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    where: str,
    *,
    first: str | tuple[str, ...],
    hint: str,
    own: str | None = None,
) -> Match:
    """Load a file of any known layout, whole; a classifier's tensors are left out.

    Args:
        network: its names are the layouts' canonical ones.
        tensors: by the file's names.
        where: how errors name the file.
        first: name of the network's first convolution, or of several: those of colours are adapted to the network's input
            channels, those of motion are for networks on motion alone.
        hint: what to do where the file does not fit.
        own: what the names of tensors contain that no file has, for they begin here.

    Returns:
        What was loaded, and what was left out.

    Raises:
        UserError: the names are in no known layout, or do not fit the network one by one. Nothing is loaded then.
    """
    layout = detect_layout(tensors, where)
    wanted = {name: tensor for name, tensor in network.state_dict().items() if own is None or own not in name}
    firsts = {name: wanted[name] for name in ((first,) if isinstance(first, str) else first)}
    match = match_weights(wanted, _adapted(tensors, layout, firsts), layout.rename)
    if not match.complete:
        raise UserError(
            f"{where}: it has the names of {layout.name}, and does not fit this backbone ({match.problems()}): {hint}"
        )
    # Not strict: old files lack batch norm's counters, and all files what is the network's own.
    network.load_state_dict(match.tensors, strict=False)
    return match


def _adapted(tensors: Mapping[str, Tensor], layout: Layout, firsts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, the first convolutions' made to fit the input; one of another kind is left for the match to name."""
    return {name: _adapted_to(firsts.get(layout.rename(name) or ""), tensor) for name, tensor in tensors.items()}


def _adapted_to(first: Tensor | None, tensor: Tensor) -> Tensor:
    if first is None or tensor.ndim != first.ndim or tensor.shape[1] != COLOURS:
        return tensor
    return adapt_input_channels(tensor, first.shape[1])
