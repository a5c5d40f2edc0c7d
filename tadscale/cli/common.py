"""What all commands share: exit codes, the type of their parsers, pages, and how they show how far they are."""

import argparse
from pathlib import Path

from rich.console import Console

from tadscale.errors import UserError
from tadscale.report.live_line import CountProgress

EXIT_OK, EXIT_FAILED = 0, 1
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run the same command again and it goes on
EXIT_INTERRUPTED = 130  # as shells say it of Ctrl-C
Commands = argparse._SubParsersAction
"""Where a module adds its commands."""


def counting(what: str, unit: str = "videos") -> CountProgress:
    """Shows on stderr how far a command is; what takes less than ten seconds shows nothing in a log."""
    return CountProgress(what, unit, Console(stderr=True, width=120, emoji=False))


def write_page(path: Path, page: str) -> None:
    """Write HTML, which says of itself that it is UTF-8; of a file's name that is none the bytes are escaped.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}; name a file in a folder that is there and is yours to write to"
        ) from error
