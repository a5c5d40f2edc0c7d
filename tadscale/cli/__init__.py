"""The command line, a module a noun. Heavy packages are imported by the command that needs them: `tadscale score` starts
in a second."""

import argparse
import io
import sys
from collections.abc import Sequence

from rich.console import Console

from tadscale.cli import data, detections, doctor, export, gate, job, logs, registry, report, rescore, runs
from tadscale.cli.common import EXIT_FAILED, EXIT_INTERRUPTED
from tadscale.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    A mistake of the user (`UserError`) and a fault of files or storage (`OSError`) end with their message on stderr and
    exit code 1; anything else, a `ValueError` out of numpy or torch too, is a fault of ours and keeps its
    traceback.
    """
    options = _parser().parse_args(arguments)
    errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    try:
        return options.command(options, _console())
    except (UserError, OSError) as error:
        errors.print(f"tadscale: {error}", style="red", markup=False)
        return EXIT_FAILED
    except KeyboardInterrupt:
        errors.print("tadscale: interrupted", style="red")
        return EXIT_INTERRUPTED


def _console() -> Console:
    """Where output goes. A log file has no width: 120 columns hold every table here, 80 would fold them.

    What the terminal's encoding lacks is escaped, and so is what is no text: a file's name may be any bytes.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 120)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tadscale", description="RGB-only temporal action detectors by distillation")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for noun in (job, runs, logs, data, detections, rescore, report, registry, gate, export, doctor):
        noun.add_to(commands)
    return parser
