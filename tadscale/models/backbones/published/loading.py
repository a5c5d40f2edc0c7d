"""A published file's tensors put into a backbone that bears torchvision's names."""

from collections.abc import Mapping

from torch import Tensor, nn

from tadscale.errors import UserError
from tadscale.models.backbones.published.adapt import adapt_input_channels
from tadscale.models.backbones.published.layouts import Layout, detect_layout
from tadscale.weights import Match, match_weights


def load_canonical(network: nn.Module, tensors: Mapping[str, Tensor], where: str, *, first: str, hint: str) -> Match:
    """Load a file of any known layout, whole; a classifier's tensors are left out.

    Args:
        network: its names are the layouts' canonical ones.
        tensors: by the file's names.
        where: how errors name the file.
        first: name of the network's first convolution, which is adapted to the network's input channels.
        hint: what to do where the file does not fit.

    Returns:
        What was loaded, and what was left out.

    Raises:
        UserError: the names are in no known layout, or do not fit the network one by one. Nothing is loaded then.
    """
    layout = detect_layout(tensors, where)
    wanted = network.state_dict()
    match = match_weights(wanted, _adapted(tensors, layout, first, wanted[first].shape[1]), layout.rename)
    if not match.complete:
        raise UserError(
            f"{where}: it has the names of {layout.name}, and does not fit this backbone ({match.problems()}): {hint}"
        )
    network.load_state_dict(match.tensors, strict=False)  # old files lack batch norm's counters, nothing else
    return match


def _adapted(tensors: Mapping[str, Tensor], layout: Layout, first: str, channels: int) -> dict[str, Tensor]:
    """The tensors, the first convolution's made to fit the input; one of another rank is left for the match to name."""
    return {
        name: adapt_input_channels(tensor, channels) if layout.rename(name) == first and tensor.ndim == 4 else tensor
        for name, tensor in tensors.items()
    }
