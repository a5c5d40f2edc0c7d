"""Which settings of a stage are others than those that it was begun with, by whichever version."""

import json
from collections.abc import Collection, Iterator
from typing import Any

from tadscale.runtime.stage.spec import Stage

Settings = dict[str, Any]
"""By their full names, such as `model.head.levels`."""

ABSENT = "not there"  # of a setting that another version has
BEFORE = {
    "student.distill.backbone_delay": 0.0,
    "model.backbone.shift_first": "previous",
    "model.head.matching_class_weight": 2.0,
}
"""What stages did that lack a setting whose default is something else: it came later, and not to them."""
UNWRITTEN = "precision"
"""What earlier versions did not write down, and so cannot be compared with theirs."""


def changed_settings(before: dict[str, Any], stage: Stage) -> list[str]:
    """Those that are others now, each as `name (before -> now)`; one that is not set counts as one that is not there.

    A setting that the stored stage does not have counts as its default: an earlier version began it, and a new setting does
    by default what was done before it.

    Args:
        before: what was stored of the stage, nested as its identity.
        stage: as it is now.
    """
    now = dict(_leaves(json.loads(json.dumps(stage.identity))))  # as it was stored: a tuple is a list there
    was = _as_of_today(dict(_leaves(before)), now, stage)
    chosen = dict(_leaves(stage.chosen))
    compared = [name for name in was | now if name not in stage.unread and (name, name in was) != (UNWRITTEN, False)]
    changed = [name for name in compared if was.get(name) != now.get(name)]
    return [
        f"{name} ({was.get(name, ABSENT)} -> {now.get(name, ABSENT)})"
        for name in changed
        if name in was or not _is_as_before(name, was, chosen)
    ]


def _as_of_today(was: Settings, now: Settings, stage: Stage) -> Settings:
    """Stored settings as today's version would have written them down."""
    parts = {name.rpartition(".")[0] for name in was}
    lacking = {name: value for name, value in BEFORE.items() if name in now and name.rpartition(".")[0] in parts}
    every = lacking | was
    return {name: every[name] for name in every if stage.mode != "pretrain" or _is_of_pretext(name)}


def _is_of_pretext(name: str) -> bool:
    """Whether a setting decides a pretext, which has a backbone alone. Earlier versions wrote down the head as well."""
    return name.startswith("model.backbone.") or not name.startswith("model.")


def _is_as_before(name: str, was: Collection[str], chosen: Collection[str]) -> bool:
    """Whether a setting that the stored stage lacks has its default, and none of what it is part of is new or was off."""
    if name in chosen:
        return False
    parts = name.split(".")
    wholes = [".".join(parts[:count]) for count in range(1, len(parts))]
    return not any(
        whole in was or (whole in chosen and not any(other.startswith(f"{whole}.") for other in was))
        for whole in wholes
    )


def _leaves(settings: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its full name: two trees side by side hide the one that differs."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value
