"""How this process's memory is handed back: hardly ever."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next tensor instead of faulting it in again: for a program that is about to run a
    network again and again. `tadscale.runtime.cluster.capacity` does the same for processes that are started.

    160 frames of 80 x 80 take `tsm_mobilenet_v2` 0.35 CPU-seconds instead of 0.59, of which 0.26 went into page faults;
    TV-L1 gains nothing. Elsewhere than on glibc, and where the environment says MALLOC_..., nothing is changed.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, LARGEST)
