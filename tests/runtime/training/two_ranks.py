"""Runs a script as two ranks on loopback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run_two_ranks(script: str, folder: Path, timeout_s: float = 150) -> None:
    """`python SCRIPT RANK 2 PORT FOLDER`, twice at once, with the tests' own modules at hand; both must end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, script]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ranks = [subprocess.Popen([*command, str(rank), "2", str(port), str(folder)], env=environment) for rank in range(2)]
    try:
        assert [rank.wait(timeout=timeout_s) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
