"""What all commands share: exit codes, the type of their parsers, the demo's database."""

import argparse
import os
from pathlib import Path

EXIT_OK, EXIT_FAILED = 0, 1
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run the same command again and it goes on
DEMO_STORE = Path("runs/mlflow.db")
EXIT_INTERRUPTED = 130  # as shells say it of Ctrl-C
Commands = argparse._SubParsersAction
"""Where a module adds its commands."""


def demo_store() -> str | None:
    """The database that a job with local storage under `runs/` leaves, if nothing else is named and it is there."""
    if os.environ.get("MLFLOW_TRACKING_URI") or not DEMO_STORE.exists():
        return None
    return f"sqlite:///{DEMO_STORE.absolute()}"
