"""How steps are shared: every number of workers divides every stage's batch, and DeepSpeed's settings can be honoured."""

from collections.abc import Iterator

from tadscale.data.plan import Plan
from tadscale.data.source import training_windows
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.stage.modes import learns_from_unlabelled, settings_of, sources_of


def shares(facts: Facts) -> Iterator[str]:
    """Whatever number of workers there is, each takes an equal share of each global batch."""
    cluster = facts.job.cluster
    for mode in facts.modes:
        batch = settings_of(facts.job, mode).optim.global_batch
        name = "pretrain.optim.global_batch" if mode == "pretrain" else "optim.global_batch"
        odd = [count for count in range(cluster.min_workers or cluster.workers, cluster.workers + 1) if batch % count]
        if odd:
            yield (
                f"{name} = {batch} cannot be shared evenly by {odd[0]} workers (cluster.workers = {cluster.workers}"
                f"{f', min_workers = {cluster.min_workers}' if cluster.min_workers else ''}): change either"
            )


def preset(facts: Facts) -> Iterator[str]:
    """DeepSpeed's own settings are there, and are such as the engine can honour."""
    facts.job.cluster.preset()
    yield from ()


def plan(facts: Facts) -> Iterator[str]:
    """Windows and the sources' shares make up global batches."""
    for mode in facts.modes:
        settings = settings_of(facts.job, mode)
        manifest = facts.training if learns_from_unlabelled(mode) else facts.labelled_training
        Plan(
            windows=training_windows(manifest, settings.data.window, settings.seed),
            seed=settings.seed,
            global_batch=settings.optim.global_batch,
            epochs=settings.optim.epochs,
            manifest_digest="",
            settings_digest="",
            shares=tuple(source.share for source in sources_of(facts.job, mode)),
        )
    yield from ()
