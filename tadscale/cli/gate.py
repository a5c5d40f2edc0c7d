"""`tadscale gate`: a challenger becomes champion by evidence, or stays out."""

import argparse

from rich.console import Console

from tadscale.cli.common import EXIT_OK, Commands
from tadscale.errors import UserError


def add_to(commands: Commands) -> None:
    """Add this command to the parser."""
    gate = commands.add_parser(
        "gate",
        help="run challenger and champion on a job's held-out videos, and promote the challenger if it is better",
    )
    gate.add_argument("job", metavar="JOB.yaml", help="names the videos, the store and, under gate, the policy")
    gate.add_argument("--model", metavar="NAME", help="registered model (default: the one that the job registers)")
    gate.add_argument("--version", metavar="N", help="in place of the version with the alias challenger")
    gate.add_argument("--policy", help="better, not_worse, always or never, in place of the job's")
    gate.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting")
    gate.set_defaults(command=_gate)


def _gate(options: argparse.Namespace, console: Console) -> int:
    from tadscale.gate.config import GateConfig
    from tadscale.report.gate import gate_lines
    from tadscale.runtime.jobs.gate.run_gate import run_gate
    from tadscale.runtime.jobs.job_file import load_job
    from tadscale.runtime.models.registry import Registry
    from tadscale.runtime.models.succession import CHALLENGER
    from tadscale.runtime.stage.local_paths import with_absolute_paths
    from tadscale.runtime.tracking.track import resolve_tracking_uri

    policy = [f"gate.policy={options.policy}"] if options.policy else []
    job = with_absolute_paths(load_job(options.job, [*options.set, *policy]))
    tracking = job.tracking
    name = options.model or (tracking.registered_teacher if job.kind == "teacher" else tracking.registered_model)
    if not name:
        raise UserError(f"{options.job} registers no model: say which by --model NAME")
    registry = Registry(resolve_tracking_uri(tracking, job.storage))
    outcome = run_gate(job, job.gate or GateConfig(), registry, name, options.version or CHALLENGER)
    for line in gate_lines(outcome.verdict, outcome.challenger.version, outcome.against):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if evidence := outcome.challenger.tags.get("tadscale.gate.evidence"):
        console.print(f"evidence: {evidence}", highlight=False, markup=False, soft_wrap=True)
    return EXIT_OK
