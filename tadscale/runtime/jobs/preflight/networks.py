"""Shapes: every network that a job trains is built and called once on torch's meta device, which computes nothing."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from tadscale.network import NetworkSpec
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.stage.spec import network_of

ANY_CLASSES = ("a", "b")  # their number changes the last layer alone


def shapes(facts: Facts) -> Iterator[str]:
    """Settings of backbone, branches, head and window make networks."""
    for mode in facts.modes:
        spec = network_of(facts.job, mode, ANY_CLASSES)
        fault = _fault(spec.model_dump_json(exclude={"inference"}))
        if fault:
            window = spec.window
            yield (
                f"the {mode} network cannot be built, or not run on windows of {window.frames} frames of "
                f"{' x '.join(map(str, window.frame_shape))} ({fault}): change model.*, or data.window"
            )


def parameters_of(spec: NetworkSpec) -> int:
    """How many parameters a network has. Raises whatever torch raises where it cannot be built."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in spec.build(for_training=True).parameters())


@lru_cache(maxsize=256)
def _fault(spec_json: str) -> str:
    """Why a network does not take a window, empty if it does. The cells of a grid are few networks: each is tried once.

    A call takes a third of a CPU-second, a process's first 3 more, which torch spends on imports.
    """
    spec = NetworkSpec.model_validate_json(spec_json)
    try:
        with torch.device("meta"):
            network = spec.build(for_training=True)
            network(_window(spec), torch.ones(1, spec.window.frames, dtype=torch.bool))
            if name := next((name for name, value in network.named_parameters() if not value.dim()), None):
                return f"its parameter {name} has no dimension, and DeepSpeed cannot send it to ranks; give it the shape [1]"
    except Exception as error:  # of any kind: settings that do not fit end wherever in torch
        return _words(error)
    return ""


def _window(spec: NetworkSpec) -> Tensor:
    window = spec.window
    if spec.reads_motion:
        grid = window.frame_shape[:2] if window.features is None else (1, 1)
        return torch.zeros(1, spec.in_channels, window.frames, *grid)
    kind = torch.uint8 if window.features is None else torch.float32
    return torch.zeros(1, window.frames, *window.frame_shape, dtype=kind)


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
