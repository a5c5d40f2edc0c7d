"""What `tadscale plan` says."""

from collections.abc import Iterable

from rich.table import Table

from tadscale.network import Mode
from tadscale.report.live_line import format_duration
from tadscale.runtime.planning.forecast import CacheForecast, Forecast


def forecast_table(forecast: Forecast, finished: Iterable[Mode] = ()) -> Table:
    """A row a stage: how long, what decides it, who reads its data, how many motion actors keep a training worker busy.
    Stages that are finished come first, and take no time."""
    table = Table(title="expected, not run", title_justify="left")
    for name in ("stage", "decided by", "data plane"):
        table.add_column(name, no_wrap=True)
    for name in ("steps", "ms a step", "motion actors a worker", "checkpoint MiB", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for mode in finished:
        table.add_row(mode, "finished")
    for stage in forecast.stages:
        actors = f"{stage.motion_per_worker:.2f}" if stage.motion_per_worker else "-"
        cells = [f"{stage.steps:,}", f"{1000 * stage.step_s:.0f}", actors, f"{stage.checkpoint_mib:.1f}"]
        table.add_row(stage.mode, stage.waits_for, stage.plane, *cells, format_duration(stage.seconds))
    return table


def forecast_lines(forecast: Forecast, cache: CacheForecast | None = None) -> list[str]:
    """What stands under the table: where the figures come from, their sum, and whether a cache would pay."""
    rates = forecast.rates
    parts = {"fetch": rates.fetch_s, "motion": rates.motion_s, "teacher": rates.teacher_s}
    if rates.appearance_teacher_s:
        parts["appearance teacher"] = rates.appearance_teacher_s
    parts |= {f"training {mode}": seconds for mode, seconds in rates.train_s.items()}
    return [
        f"data       {forecast.windows:,} windows an epoch",
        "a window   " + ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in parts.items()),
        f"training   {format_duration(forecast.seconds)} in all on {forecast.cpus} CPUs; drawing data and evaluation come "
        "on top",
        *([] if cache is None else [_cache_line(cache)]),
    ]


def _cache_line(cache: CacheForecast) -> str:
    worth = f"{format_duration(cache.saved_s)} less" if cache.saved_s >= 1 else "no less: motion is not waited for"
    return (
        f"cache      teacher.cache would hold {cache.bytes / 2**20:,.1f} MiB; a run that finds it filled takes {worth}"
    )
