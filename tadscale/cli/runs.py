"""`tadscale runs`: what runs, how far it is, and what it waits for, without knowing Ray or MLflow."""

import argparse
import shlex
import time
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tadscale.cli.common import EXIT_OK, Commands
from tadscale.cli.store import add_store_to, open_store
from tadscale.errors import UserError

if TYPE_CHECKING:
    from tadscale.runtime.tracking.overview import JobSeen, StageSeen

WAITS = 0.2  # share of the time that training waits for data, from which on it is said


def add_to(commands: Commands) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser("runs", help="what runs, how far it is, and what it waits for")
    parser.add_argument("name", metavar="NAME", nargs="?", help="one job's runs and its stages, a grid's and its cells")
    parser.add_argument("--last", type=int, default=10, metavar="N", help="how many jobs, the newest first (10)")
    parser.add_argument(
        "--watch", type=float, metavar="SECONDS", help="show it again every so many seconds, until Ctrl-C"
    )
    add_store_to(parser)
    parser.set_defaults(command=_runs)


def _runs(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.tracking.overview import cells_seen, jobs_seen

    client, where = open_store(options)
    while True:
        jobs = jobs_seen(client, last=options.last, name=options.name)
        if not jobs:
            raise UserError(f"the store {where} has no run{f' of {options.name!r}' if options.name else ''} yet")
        console.print(jobs_table(jobs))
        if options.name:
            cells = cells_seen(client, jobs[0])
            console.print(jobs_table(cells) if cells else stages_table(jobs[0]))
            console.print(curves_line(jobs[0], where), markup=False, highlight=False, soft_wrap=True)
        if options.watch is None:
            return EXIT_OK
        time.sleep(options.watch)


def jobs_table(jobs: "list[JobSeen]") -> Table:
    """A row a job."""
    table = Table("job", "started", "state", "stage", "step", "left", "says", box=None, pad_edge=False)
    for job in jobs:
        stage = job.current
        running = job.state == "running" and stage is not None
        table.add_row(
            Text(job.name),
            datetime.fromtimestamp(job.started_unix_s).strftime("%Y-%m-%d %H:%M"),
            job.state,
            Text(stage.name if stage else ""),
            _steps(stage) if stage else "",
            duration(stage.eta_s) if running and stage is not None and stage.eta_s is not None else "",
            Text(_says(job)),  # of an error, brackets are no markup
        )
    return table


def stages_table(job: "JobSeen") -> Table:
    """A row a stage of one job."""
    table = Table("stage", "state", "step", "loss", "windows/s", "waits for data", box=None, pad_edge=False)
    for stage in job.stages:
        table.add_row(
            Text(stage.name),
            stage.status.lower(),
            _steps(stage),
            f"{stage.loss:.4g}" if stage.loss is not None else "",
            f"{stage.windows_per_s:.1f}" if stage.windows_per_s is not None else "",
            f"{stage.data_wait_share:.0%}" if stage.data_wait_share is not None else "",
        )
    return table


def curves_line(job: "JobSeen", store: str) -> str:
    """Where the run's page with its curves is."""
    page = f"/#/experiments/{job.experiment_id}/runs/{job.run_id}"
    if store.startswith(("http://", "https://")):
        return f"curves: {store.rstrip('/')}{page}"
    return f"curves: mlflow ui --backend-store-uri {shlex.quote(store)}, then http://localhost:5000{page}"


def _steps(stage: "StageSeen") -> str:
    return f"{stage.step}/{stage.total_steps or '?'}"


def _says(job: "JobSeen") -> str:
    """The one thing that matters of it: its error, its best score, its silence, what it waits for."""
    stage = job.current
    if job.state == "silent":
        return f"not heard of for {duration(job.silent_s)}: killed? The same command goes on from its last checkpoint"
    if job.error and job.state != "finished":
        return job.error.splitlines()[0][:100]
    if job.scores:
        return ", ".join(f"{name} {100 * value:.1f}" for name, value in job.scores.items())
    if job.state != "running":
        return ""
    if job.cell:
        return f"cell {job.cell}"
    if stage and stage.is_stuck:
        return f"no step for {duration(stage.silent_s)}: is there a node for it? `tadscale logs` may say"
    if stage and (stage.data_wait_share or 0.0) >= WAITS:
        return f"waits for data {stage.data_wait_share:.0%} of the time"
    return ""


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
