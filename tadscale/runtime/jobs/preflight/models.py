"""Networks that a job names instead of training them: they are there, and fit. And those of an earlier run, to be scored."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tadscale.data.storage import join, list_names
from tadscale.engine.start import is_published, load_start
from tadscale.engine.steps import StudentConfig
from tadscale.errors import UserError
from tadscale.network import FORMAT_1_NAME, SPEC_NAME, Mode
from tadscale.runtime.jobs.begun import check_begun
from tadscale.runtime.jobs.named_models import opened
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.models.open_model import MODELS
from tadscale.runtime.pipeline.motion_teacher import check_teacher
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.local_paths import absolute, is_relative
from tadscale.runtime.stage.spec import planned_stages, stage_of
from tadscale.runtime.training.appearance_teacher import check_appearance_teacher
from tadscale.runtime.training.resume import finished_stages

RGB_DETECTORS: tuple[Mode, ...] = ("baseline", "conventional", "decomposed")
"""Whose networks start a backbone, or teach appearance."""


def teacher(facts: Facts) -> Iterator[str]:
    """The teacher that is named sees the same motion, windows and classes as its student."""
    job = facts.job
    if facts.distils and job.teacher.url is not None:
        _check_there("teacher.url", facts.given.teacher.url, ("teacher",))
        bare = _alone(job).model_copy(update={"student": StudentConfig(mode=job.student.mode)})
        with opened(job.teacher.url, facts.tracking_uri) as url:
            check_teacher(stage_of(bare, job.student.mode, url), facts.training)
    yield from ()


def appearance_teacher(facts: Facts) -> Iterator[str]:
    """The appearance teacher that is named sees the same windows and classes as its student; the run's own baseline does."""
    named = facts.job.student.appearance_teacher
    if facts.distils and named is not None and named.url is not None:
        given = facts.given.student.appearance_teacher
        _check_there("student.appearance_teacher.url", given.url if given else None, RGB_DETECTORS)
        with opened(named.url, facts.tracking_uri) as url:
            found = named.model_copy(update={"url": url})
            student = facts.job.student.model_copy(update={"appearance_teacher": found})
            alone = _alone(facts.job).model_copy(update={"student": student})
            check_appearance_teacher(stage_of(alone, "decomposed"), facts.training)
    yield from ()


def start(facts: Facts) -> Iterator[str]:
    """What RGB backbones start from is of this very backbone."""
    url = facts.job.model.backbone.weights
    if facts.modes and url is not None:
        _check_there("model.backbone.weights", facts.given.model.backbone.weights, ("pretrain", *RGB_DETECTORS))
        with opened(url, facts.tracking_uri) as folder:
            load_start(facts.job.model.backbone.build(facts.job.data.window.frame_shape[-1]), folder)
    yield from ()


def finished(facts: Facts) -> Iterator[str]:
    """A job that only evaluates has something to evaluate; what lies under another's name is that very job's."""
    if facts.job.kind == "evaluate":
        finished_stages(facts.job.run_url)
    else:
        check_begun(planned_stages(facts.given))
    yield from ()


def _check_there(setting: str, given: str | None, modes: Iterable[Mode]) -> None:
    """Refuse a place without a network by its setting, as the job file has it. Registered ones are looked up elsewhere.

    Args:
        setting: that names the place.
        given: the place.
        modes: of the networks that would do, if the place is a run's folder.
    """
    if given is None or given.startswith(MODELS):
        return
    url = absolute(given)
    folder, _, name = url.rpartition("/")
    if name in list_names(folder) if is_published(url) else {SPEC_NAME, FORMAT_1_NAME} & set(list_names(url)):
        return
    weights = [join(mode, "weights") for mode in modes]
    meant = [join(given, place) for place in weights if SPEC_NAME in list_names(join(url, place))]
    says = f"did you mean {' or '.join(meant)}?" if meant else "the copy is incomplete or the path is wrong"
    if is_relative(given) and not meant:
        says += f"; {given} counts from {Path.cwd()}, where the command was started"
    what = "no such file" if is_published(url) else f"no trained network, for it has no {SPEC_NAME}"
    raise UserError(f"{setting}: {url} is {what}: {says}")


def _alone(job: JobConfig) -> JobConfig:
    """The job without its start, of which another check tells."""
    backbone = job.model.backbone.model_copy(update={"weights": None})
    return job.model_copy(update={"model": job.model.model_copy(update={"backbone": backbone})})
