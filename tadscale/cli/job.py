"""`tadscale run`, `validate`, `plan`, `schema`: a job file, and what becomes of it."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tadscale.cli.common import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_PREEMPTED, Commands
from tadscale.errors import UserError

if TYPE_CHECKING:
    from tadscale.config import Config
    from tadscale.runtime.cluster.stopping import StopToken
    from tadscale.runtime.stage.job import JobConfig


def add_to(commands: Commands) -> None:
    """Add these commands to the parser."""
    for name, command, text in (
        ("run", _run, "run a job file"),
        ("validate", _validate, "check a job file and show it as resolved"),
    ):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("job", metavar="JOB.yaml")
        parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting")
        parser.set_defaults(command=command)
    plan = commands.add_parser(
        "plan",
        help="what a job or a grid would take, from rates measured here, or whether a retraining would train; runs nothing",
    )
    plan.add_argument("job", metavar="JOB.yaml")
    plan.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting")
    plan.add_argument("--cpus", type=int, metavar="N", help="CPUs of the cluster (default: this machine's)")
    plan.add_argument(
        "--kubernetes",
        action="store_true",
        help="print the job's cluster: section and a patch with its worker groups instead; measures nothing",
    )
    plan.add_argument(
        "--answer",
        metavar="FILE",
        help="of a retraining: leave the answer here, `train` or `nothing to do`, for scripts; "
        "waits for MLflow for tracking.patience_s",
    )
    plan.set_defaults(command=_plan)
    schema = commands.add_parser("schema", help="print the JSON Schema of job files, for editors")
    schema.set_defaults(command=_schema)


def _run(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.cluster.stopping import Preempted, StopToken

    stop = StopToken()
    try:
        with stop.listening():
            return _run_until_stopped(options, console, stop)
    except KeyboardInterrupt as told:
        if isinstance(told, Preempted) and not stop.by_hand:
            console.print(f"preempted: {told}", markup=False)
            return EXIT_PREEMPTED
        words = str(told) or "the same command goes on from what is finished and from the last checkpoint"
        console.print(f"interrupted: {words}", markup=False)
        return EXIT_INTERRUPTED


def _run_until_stopped(options: argparse.Namespace, console: Console, stop: "StopToken") -> int:
    from tadscale.runtime.grid.spec import is_grid, load_grid
    from tadscale.runtime.jobs.job_file import load_job
    from tadscale.runtime.retrain.spec import is_retrain

    if is_retrain(options.job):
        return _retrain_until_stopped(options, console, stop)
    grid = load_grid(options.job, options.set) if is_grid(options.job) else None
    job = None if grid else load_job(options.job, options.set)
    from tadscale.runtime.grid.run_grid import run_grid
    from tadscale.runtime.jobs.run_job import run_job
    from tadscale.runtime.training.launch import TrainingFailed

    try:
        if grid:
            run_grid(*grid, console, stop)
        elif job:
            run_job(job, console, stop)
    except TrainingFailed as failure:
        console.print(f"failed: {failure}", markup=False)
        return EXIT_FAILED
    return EXIT_OK


def _retrain_until_stopped(options: argparse.Namespace, console: Console, stop: "StopToken") -> int:
    """Without Ray, where there is nothing to train."""
    from tadscale.runtime.retrain.run_retrain import run_retrain
    from tadscale.runtime.retrain.spec import load_retrain
    from tadscale.runtime.training.failed import TrainingFailed

    try:
        run_retrain(*load_retrain(options.job, options.set), console, stop)
    except TrainingFailed as failure:
        console.print(f"failed: {failure}", markup=False)
        return EXIT_FAILED
    return EXIT_OK


def _validate(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.grid.check import check_cells
    from tadscale.runtime.grid.spec import is_grid, load_grid
    from tadscale.runtime.jobs.job_file import load_job
    from tadscale.runtime.jobs.preflight.checks import preflight
    from tadscale.runtime.retrain.spec import is_retrain, load_retrain

    if is_retrain(options.job):
        config, job = load_retrain(options.job, options.set)
        preflight(job, services=False)
        _show(config, console)
        console.print("---  # the job, without what it takes over from the champion", markup=False, highlight=False)
        _show(job, console)
        return EXIT_OK
    if is_grid(options.job):
        _, cells = load_grid(options.job, options.set)
        check_cells(cells)
        for cell in cells:
            console.print(f"{cell.name}: {', '.join(cell.jobs)}", markup=False, highlight=False)
        return EXIT_OK
    job = load_job(options.job, options.set)
    preflight(job, services=False)
    _show(job, console)
    return EXIT_OK


def _show(settings: "Config", console: Console) -> None:
    import yaml

    from tadscale.runtime.tracking.redact import redact

    shown = redact(settings.model_dump(mode="json"))
    console.print(yaml.safe_dump(shown, sort_keys=False), markup=False, highlight=False)


def _plan(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.grid.spec import is_grid
    from tadscale.runtime.retrain.spec import is_retrain

    if is_retrain(options.job):
        return _plan_retrain(options, console)
    if options.answer:
        raise UserError(f"--answer is for files of kind retrain, and {options.job} is none")
    if is_grid(options.job):
        return _plan_grid(options, console)
    return _plan_job(options, console)


def _plan_retrain(options: argparse.Namespace, console: Console) -> int:
    """Without Ray: where a schedule asks, there are no nodes yet."""
    from tadscale.report.retrain import decision_line
    from tadscale.runtime.retrain.run_retrain import would_train
    from tadscale.runtime.retrain.spec import load_retrain

    if options.kubernetes:
        raise UserError(f"{options.job} runs another job when its data ask for it: plan the job that it names")
    config, job = load_retrain(options.job, options.set)
    # A schedule asks once a week, and MLflow may be on its way to another node; who asks by hand is told at once.
    decision = would_train(config, job, job.tracking.patience_s if options.answer else 0.0)
    console.print(decision_line(decision), markup=False, highlight=False, soft_wrap=True)
    if options.answer:
        Path(options.answer).write_text("train\n" if decision.retrain else "nothing to do\n")
    return EXIT_OK


def _plan_grid(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.grid.check import check_cells
    from tadscale.runtime.grid.forecast import forecast_grid, forecast_table
    from tadscale.runtime.grid.spec import load_grid

    if options.kubernetes:
        raise UserError(f"{options.job} is a grid of jobs: plan the worker groups of the job that it names")
    grid, cells = load_grid(options.job, options.set)
    check_cells(cells)
    cpus = options.cpus or os.cpu_count() or 1
    console.print(forecast_table(tuple(grid.axes), forecast_grid(cells, cpus)))
    console.print(
        f"on {cpus} CPUs, {len(cells)} cells one after the other; drawing data and evaluation come on top",
        highlight=False,
    )
    return EXIT_OK


def _plan_job(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.jobs.begun import finished_modes
    from tadscale.runtime.jobs.job_file import load_job
    from tadscale.runtime.jobs.named_models import named_appearance_teacher
    from tadscale.runtime.jobs.preflight.checks import preflight
    from tadscale.runtime.jobs.preflight.cluster import offered
    from tadscale.runtime.planning.forecast import forecast, teacher_cache_forecast
    from tadscale.runtime.planning.rates import measure_rates
    from tadscale.runtime.planning.tables import forecast_lines, forecast_table
    from tadscale.runtime.stage.modes import stage_modes

    job = load_job(options.job, options.set)
    if options.kubernetes:
        return _plan_kubernetes(job, console)
    modes = stage_modes(job)
    if not modes:
        raise UserError(
            f"{options.job} only evaluates: there is no training to plan; name a job of kind distill or teacher"
        )
    for doubt in preflight(job):
        console.print(f"warning: {doubt}", style="yellow", markup=False, highlight=False)
    cpus = options.cpus or os.cpu_count() or 1
    finished = finished_modes(job)
    left = [mode for mode in modes if mode not in finished]
    if not left:
        console.print(f"training   nothing is left: {', '.join(finished)} finished; evaluation comes on top")
        return EXIT_OK
    rates, windows = measure_rates(job, left, named_appearance_teacher(job))
    expected = forecast(job, windows, rates, cpus, offered(job).nodes)
    console.print(forecast_table(expected, finished))
    for line in forecast_lines(expected, teacher_cache_forecast(job, expected)):
        console.print(line, markup=False, highlight=False)
    return EXIT_OK


def _plan_kubernetes(job: "JobConfig", console: Console) -> int:
    from tadscale.runtime.jobs.preflight.checks import preflight
    from tadscale.runtime.planning.kubernetes import kubernetes_text

    preflight(job, services=False)
    console.print(kubernetes_text(job), markup=False, highlight=False, soft_wrap=True, end="")
    return EXIT_OK


def _schema(options: argparse.Namespace, console: Console) -> int:
    import json

    from tadscale.runtime.grid.spec import file_schema

    console.print(json.dumps(file_schema(), indent=1), markup=False, highlight=False)
    return EXIT_OK
