"""Runs a script as two ranks on loopback."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch

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


def take_part(work: Callable[[int, int, str], None]) -> NoReturn:
    """The whole of such a script: `work(rank, world_size, folder)`, on one thread, among ranks that have joined over gloo.

    It leaves without taking the interpreter down. One of gloo's threads may still hold a tensor of the last collective;
    where it asks for the GIL of an interpreter that ends, to let go of it, it aborts the process (torch 2.13; 4 of 36
    pairs on busy cores).
    """
    rank, world_size, port, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    work(rank, world_size, folder)
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
