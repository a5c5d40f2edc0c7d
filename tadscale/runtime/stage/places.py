"""The settings of a job that name a place, by their dotted names: looked up and changed in one way."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from tadscale.runtime.stage.job import JobConfig

NETWORKS = ("teacher.url", "student.appearance_teacher.url", "model.backbone.weights")
"""Where a network lies that the job does not train."""
PLACES = ("storage", "data.url", "motion.flow_url", "teacher.cache.url", *NETWORKS)
"""Folders and object-store prefixes, but for those of `data.sources`, of which there may be any number."""


def places(job: JobConfig, settings: Iterable[str]) -> dict[str, str]:
    """The places of those settings that are set, by setting."""
    found: dict[str, str] = {}
    with_places(job, settings, lambda setting, place: found.setdefault(setting, place))
    return found


def with_places(job: JobConfig, settings: Iterable[str], change: Callable[[str, str], str]) -> JobConfig:
    """The same job with other places.

    Args:
        job: any.
        settings: which of its places.
        change: given a setting and its place, the new one; asked where there is one.
    """
    for setting in settings:
        job = _changed(job, setting.split("."), partial(change, setting))
    return job


def _changed(settings: Any, path: Sequence[str], change: Callable[[str], str]) -> Any:
    if settings is None:
        return None
    if not path:
        return change(settings)
    return settings.model_copy(update={path[0]: _changed(getattr(settings, path[0]), path[1:], change)})
