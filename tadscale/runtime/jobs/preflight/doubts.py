"""What is allowed and perhaps not meant: no fault, and a figure that says less than it seems to."""

from collections.abc import Iterator

from tadscale.runtime.jobs.begun import check_begun
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.jobs.preflight.subsets import labels_in
from tadscale.runtime.models.raw_video import raw_video
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import planned_stages

NAMED = 5


def doubts(facts: Facts, *, of_stages: bool) -> Iterator[str]:
    """A sentence each, of a job in which no fault was found; also of its stages, if those were looked at. Raises as `Facts`
    does."""
    if facts.evaluates and facts.modes:
        yield from _seen_in_training(facts)
    if facts.evaluates and facts.learns_from_truth:
        yield from _never_taught(facts)
    if facts.job.kind == "distill" and facts.job.tracking.registered_model:
        yield from _sees_no_video(facts.job)
    if of_stages:
        yield from check_begun(planned_stages(facts.given))


def _sees_no_video(job: JobConfig) -> Iterator[str]:
    if lacks := raw_video(job).lacks:
        yield f"the model that is registered will not run on raw video, on features alone: {lacks}"


def _seen_in_training(facts: Facts) -> Iterator[str]:
    data = facts.job.data
    if any((source.url, source.subset) == (data.url, data.test_subset) for source in data.training_sources):
        yield (
            f"subset {data.test_subset!r} of {data.url} is trained on and scored on: the figures say how well it is learned "
            "by heart; name another data.test_subset"
        )


def _never_taught(facts: Facts) -> Iterator[str]:
    wanted = labels_in(facts.test)
    if unknown := sorted(wanted - labels_in(facts.labelled_training)):
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        yield (
            f"{len(unknown)} of {len(wanted)} classes of subset {facts.job.data.test_subset!r} are in no training video, "
            f"and each is a 0 in the mean: {', '.join(unknown[:NAMED])}{more}"
        )
