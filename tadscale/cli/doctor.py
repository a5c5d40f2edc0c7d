"""`tadscale doctor`: what is installed, what answers, and what would fail."""

import argparse
import json

from rich.console import Console

from tadscale.cli.common import EXIT_FAILED, EXIT_OK, Commands

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def add_to(commands: Commands) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser("doctor", help="what is installed, what answers and how fast, and what would fail")
    parser.add_argument(
        "job", metavar="JOB.yaml", nargs="?", help="ask its services, and whether it would run to its end"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting of the job"
    )
    parser.add_argument(
        "--json", action="store_true", help="a JSON list: probe, status (ok, warn, fail), says, seconds"
    )
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace, console: Console) -> int:
    """Exit code 1 if something would fail."""
    from tadscale.runtime.jobs.doctor.examine import examine

    lines = []
    for line in examine(options.job, options.set):
        lines.append(line)
        if not options.json:
            console.print(f"[{COLOURS[line.status]}]{line.status:4}[/]", f"{line.probe:22}", end=" ", highlight=False)
            console.print(line.says, markup=False, highlight=False)
    if options.json:
        console.print(json.dumps([line._asdict() for line in lines], indent=1), markup=False, highlight=False)
    return EXIT_FAILED if any(line.status == "fail" for line in lines) else EXIT_OK
