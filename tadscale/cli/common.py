"""What all commands share: exit codes and the type of their parsers."""

import argparse

EXIT_OK, EXIT_FAILED = 0, 1
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run the same command again and it goes on
EXIT_INTERRUPTED = 130  # as shells say it of Ctrl-C
Commands = argparse._SubParsersAction
"""Where a module adds its commands."""
