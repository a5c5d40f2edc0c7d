"""`tadscale logs`: what a job said, from its first attempt to its last, wherever it ran."""

import argparse
import time
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tadscale.cli.common import EXIT_OK, Commands
from tadscale.cli.store import add_store_to, open_store
from tadscale.errors import UserError

if TYPE_CHECKING:
    from tadscale.runtime.tracking.journal import JournalReader, Line

FOLLOW_S = 2.0
STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


def add_to(commands: Commands) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser("logs", help="what a job said: its driver, its workers, every attempt")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the job (default: the one that began last)")
    parser.add_argument("--last", type=int, default=100, metavar="N", help="how many lines to begin with (100)")
    parser.add_argument("--warnings", action="store_true", help="warnings and errors alone")
    parser.add_argument("--follow", action="store_true", help="go on until the job says that it ended")
    add_store_to(parser)
    parser.set_defaults(command=_logs)


def _logs(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.tracking.journal import JournalReader
    from tadscale.runtime.tracking.overview import run_url_of_latest

    client, where = open_store(options)
    url = run_url_of_latest(client, options.name)
    if url is None:
        raise UserError(f"the store {where} has no run{f' of {options.name!r}' if options.name else ''} yet")
    reader = JournalReader(url)
    lines = reader.new_lines()
    shown = [line for line in lines if _is_wanted(line, options)]
    if not shown and not options.follow:
        console.print(_nothing(lines, url), markup=False, highlight=False)
    for line in shown[max(0, len(shown) - options.last) :]:
        console.print(format_line(line))
    if options.follow and not _is_over(lines, False):
        _follow(reader, url, options, console)
    return EXIT_OK


def _follow(reader: "JournalReader", url: str, options: argparse.Namespace, console: Console) -> None:
    """Show what is said until the driver's last word; a killed driver says none.

    Raises:
        UserError: the driver is gone.
    """
    from tadscale.runtime.jobs.lease import LeaseWatch

    watch, over = LeaseWatch(url), False
    while not over:
        time.sleep(FOLLOW_S)
        dead = watch.dead()  # before its lines are read, so that the last of them are shown
        lines = reader.new_lines()
        for line in lines:
            if _is_wanted(line, options):
                console.print(format_line(line))
        over = _is_over(lines, over)
        if dead is not None and not over:
            raise UserError(
                f"the job's driver, process {dead.pid} on {dead.host}, is gone without a last word: killed (for memory, "
                "with its machine or pod), or cut off from its storage. The same job goes on where it stopped"
            )


def format_line(line: "Line") -> Text:
    """`11-28 06:55:01  job             teacher: step 120/600 ...`, in this machine's time."""
    at = datetime.fromtimestamp(line.unix_s).strftime("%m-%d %H:%M:%S")
    level = "" if line.level == "INFO" else f"{line.level}: "
    return Text(f"{at}  {line.who:<18} {level}{line.words}", style=STYLES.get(line.level, ""))


def _is_wanted(line: "Line", options: argparse.Namespace) -> bool:
    return not options.warnings or line.level != "INFO"


def _is_over(lines: "list[Line]", before: bool) -> bool:
    """Whether the job has ended, by its driver's last word: another attempt may have begun, and workers trail behind."""
    from tadscale.runtime.tracking.journal import DRIVER

    return next((line.ends for line in reversed(lines) if line.who == DRIVER), before)


def _nothing(lines: "list[Line]", url: str) -> str:
    if lines:
        return "no warning and no error"
    return (
        f"nothing is kept in {url}/logs: this is a grid (its jobs have logs of their own: `tadscale runs`), a version "
        "without logs ran it, or its storage is another machine's"
    )
