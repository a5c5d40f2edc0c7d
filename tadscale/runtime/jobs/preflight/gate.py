"""The gate: whether it could hold what the job will register against the champion that reigns now."""

from collections.abc import Iterator

import numpy as np

from tadscale.data.features import FeatureRows
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.network import NetworkSpec
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.models.champion_alias import ChampionGone
from tadscale.runtime.models.registry import NotRegistered, Registry
from tadscale.runtime.models.succession import CHAMPION
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.tracking.store_lock import database_file

OTHERWISE = "register under another name, or leave gate out and promote by hand"


def pace(facts: Facts) -> Iterator[str]:
    """A detector's time on video is asked of one that reads video."""
    if _times(facts.job) and facts.job.data.window.features is not None:
        yield (
            "gate.budgets.seconds_per_video_second is measured on video, and by data.window.features this job reads "
            "features: leave that budget out"
        )


def champion(facts: Facts) -> Iterator[str]:
    """The champion can be run on the job's test videos, and these suffice for an interval."""
    job = facts.job
    name = {"distill": job.tracking.registered_model, "teacher": job.tracking.registered_teacher}.get(job.kind)
    if job.gate is None or name is None or not _is_laid_out(facts.tracking_uri):
        return
    reigning = _reigning(facts.tracking_uri, name)
    if reigning is not None:
        number, spec = reigning
        yield from _too_few(facts)
        yield from _misfits(facts, spec, f"the champion, {name} version {number},")


def _is_laid_out(uri: str) -> bool:
    """Whether there is a store: a database that is still to be made has no champion, and is not made here."""
    database = database_file(uri)
    return database is None or database.exists()


def _reigning(uri: str, name: str) -> tuple[int, NetworkSpec] | None:
    """Number and description of the champion; None where there is none: what the job registers will be it, compared with
    nobody. Raises `ChampionGone` where there was one."""
    try:
        registry = Registry(uri)
        number = registry.version(name, CHAMPION).version
    except NotRegistered:
        return None
    except (ChampionGone, OSError):
        raise
    except Exception:  # MLflow's own, a driver's: of a store that cannot be used the check of it tells
        return None
    return number, registry.describe(name, number)


def _times(job: JobConfig) -> bool:
    return job.gate is not None and job.gate.budgets.seconds_per_video_second is not None


def _too_few(facts: Facts) -> Iterator[str]:
    data = facts.job.data
    if np.count_nonzero(facts.data.column("subset") == data.test_subset) == 1:  # of none another check tells
        yield (
            f"subset {data.test_subset!r} of {data.url} has 1 video, and the gate's bootstrap over videos needs 2 or more "
            "(6 for a decision at 95 %): test on more, or leave gate out"
        )


def _misfits(facts: Facts, spec: NetworkSpec, who: str) -> Iterator[str]:
    job, data = facts.job, facts.job.data
    if spec.classes != facts.data.classes:
        other = sorted(set(spec.classes) ^ set(facts.data.classes))
        yield (
            f"{who} knows {len(spec.classes)} classes and {data.url} has {len(facts.data.classes)}; not in both: "
            f"{', '.join(other[:5]) or 'none, their order differs'}: the gate could not compare anything with it; label the "
            f"videos alike, {OTHERWISE}"
        )
    if spec.window.features != data.window.features:
        yield (
            f"{who} reads {_modality(spec.window.features)} and this job {_modality(data.window.features)} "
            f"(data.window.features): the gate could not run it on {data.url}; {OTHERWISE}"
        )
    if spec.reads_motion and (made := motion_fingerprint(job.motion)) != spec.motion_fingerprint:
        yield (
            f"{who} reads the motion {spec.motion_fingerprint}, and this job makes {made}: motion's settings, weights or "
            f"flow shards were changed since, and the gate could not run it; set motion as it was, {OTHERWISE}"
        )
    if spec.reads_motion and _times(job):
        yield f"{who} reads motion, and gate.budgets.seconds_per_video_second is measured on video: leave that budget out"


def _modality(features: FeatureRows | None) -> str:
    return "video" if features is None else f"features ({features})"
