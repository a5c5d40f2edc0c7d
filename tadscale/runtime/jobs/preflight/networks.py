"""Networks: every one that a job trains is built and called once on torch's meta device, which computes nothing; and none
keeps layers as they were loaded where nothing is loaded."""

import json
from collections.abc import Iterator
from functools import lru_cache

import torch

from tadscale.network import NetworkSpec
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.jobs.preflight.parts import run_parts
from tadscale.runtime.stage.modes import network_of
from tadscale.runtime.stage.spec import Stage, planned_stages

ANY_CLASSES = ("a", "b")  # their number changes the last layer alone


def shapes(facts: Facts) -> Iterator[str]:
    """Settings of backbone, branches, head and window make networks."""
    alike: dict[tuple[str, str], list[str]] = {}
    for mode in facts.modes:
        spec = network_of(facts.job, mode, ANY_CLASSES)
        if fault := _fault(spec.model_dump_json(exclude={"inference"})):
            windows = f"{spec.window.frames} frames of {' x '.join(map(str, spec.window.frame_shape))}"
            alike.setdefault((fault, windows), []).append(mode)
    for (fault, windows), modes in alike.items():
        yield (
            f"the {', '.join(modes)} network cannot be built, or not run on windows of {windows} ({fault}): change model.* "
            "or data.window, or where a part is your own its code"
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
    """Why a network does not take windows, empty if it does. The cells of a grid are few networks: each is tried once."""
    try:
        return run_parts(NetworkSpec.model_validate_json(spec_json))
    except Exception as error:  # of any kind: settings that do not fit end wherever in torch
        return _words(error)


def _words(error: Exception) -> str:
    """The first line of what it says, and its kind where that says more than that something is wrong."""
    words = next(iter(str(error).strip().splitlines()), "")[:200].rstrip(".")
    return (
        words if isinstance(error, ValueError | RuntimeError) and words else f"{type(error).__name__} {words}".strip()
    )
