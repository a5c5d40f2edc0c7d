"""What a process takes of memory that nobody else can have meanwhile, apart from what it only looks at.

Frames arrive in Ray's object store, which all processes of a node map: its pages count to every process that has touched
them, and stay until the store needs them. A process that keeps nothing seems to grow by a gigabyte in 600 steps, all of it
the store's.
"""

import resource
from pathlib import Path
from typing import NamedTuple

import torch

STATUS = Path("/proc/self/status")  # Linux; see proc(5)
MIB = 2**20


class Memory(NamedTuple):
    """MiB of this process."""

    own: float
    """Anonymous memory: weights, gradients, activations, Python. What is not freed is a leak of this process."""
    shared: float
    """Pages of shared memory that it has mapped and touched: the object store's, which belong to nobody alone."""
    gpu: float
    """What torch holds of its GPU; 0 where none is used."""


def memory_in_use(status: Path = STATUS) -> Memory:
    """What this process takes now. Where there is no `/proc`, the most it ever took, shared pages included."""
    gpu = torch.cuda.memory_reserved() / MIB if torch.cuda.is_initialized() else 0.0
    if not status.exists():
        return Memory(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 0.0, gpu)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    own, shared = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssShmem"))  # given in KiB
    return Memory(own, shared, gpu)
