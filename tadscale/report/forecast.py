"""What `tadscale plan` says."""

from collections.abc import Sequence

from rich.table import Table

from tadscale.job import JobConfig
from tadscale.report.progress import format_duration
from tadscale.runtime.forecast import StageForecast
from tadscale.runtime.rates import Rates


def forecast_table(stages: Sequence[StageForecast]) -> Table:
    """A row a stage: how long, what decides it, and how many motion actors keep a training worker busy."""
    table = Table(title="expected, not run", title_justify="left")
    for name in ("stage", "decided by"):
        table.add_column(name, no_wrap=True)
    for name in ("steps", "ms a step", "motion actors a worker", "checkpoint MiB", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in stages:
        actors = f"{stage.motion_per_worker:.2f}" if stage.motion_per_worker else "-"
        cells = [f"{stage.steps:,}", f"{1000 * stage.step_s:.0f}", actors, f"{stage.checkpoint_mib:.1f}"]
        table.add_row(stage.mode, stage.waits_for, *cells, format_duration(stage.seconds))
    return table


def forecast_lines(job: JobConfig, windows: int, rates: Rates, cpus: int, stages: Sequence[StageForecast]) -> list[str]:
    """What stands under the table: where the figures come from, and their sum."""
    parts = {"fetch": rates.fetch_s, f"motion ({job.motion.name})": rates.motion_s, "teacher": rates.teacher_s}
    parts |= {f"training {mode}": seconds for mode, seconds in rates.train_s.items()}
    total = format_duration(sum(stage.seconds for stage in stages))
    return [
        f"data       {windows:,} windows an epoch, {job.optim.epochs} epochs, {job.optim.global_batch} windows a step",
        "a window   " + ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in parts.items()),
        f"cluster    {job.cluster.workers} training worker(s) on {job.cluster.device}, {job.cluster.motion_actors} motion "
        f"actor(s) on {job.cluster.motion_device}, {cpus} CPUs",
        f"training   {total} in all; drawing data and evaluation come on top",
    ]
