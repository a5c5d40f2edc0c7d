"""Networks: every one that a job trains is built and called once on torch's meta device, which computes nothing; and none
keeps layers as they were loaded where nothing is loaded."""

import json
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from tadscale.network import NetworkSpec
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.stage.modes import network_of
from tadscale.runtime.stage.spec import Stage, planned_stages

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


def frozen(facts: Facts) -> Iterator[str]:
    """What stays as it was loaded is loaded."""
    for stage in planned_stages(facts.job):
        if stage.start_url is None and facts.job.model.backbone.frozen_by:
            yield _never_trained(stage)


def _never_trained(stage: Stage) -> str:
    backbone = stage.job.model.backbone
    value = getattr(backbone, backbone.frozen_by)
    remedy = "name a file of published weights in model.backbone.weights"
    if stage.mode == "teacher":
        remedy += ", from which alone a teacher on motion starts, or a trained teacher in teacher.url"
    if stage.mode == "pretrain":
        remedy = "start from published weights without a pretext"
    return (
        f"the {stage.mode} network starts from nothing, and model.backbone.{backbone.frozen_by} = {json.dumps(value)} keeps "
        f"layers of its {backbone.name} that nobody trained: {remedy}, or set {backbone.frozen_by} to "
        f"{json.dumps(type(value)())}"
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
