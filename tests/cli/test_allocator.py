"""Memory that is freed is used again, and not faulted in page by page."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys
import numpy as np
from tadscale.cli.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 8 * 2**25 // 4096


def faults(how: str, **variables: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= {"NUMPY_MADVISE_HUGEPAGE": "0", **variables}
    done = subprocess.run([sys.executable, "-c", FAULTS, how], env=environment, capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_not_faulted_in_again():
    assert faults("let") >= PAGES
    assert faults("keep") < PAGES / 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_who_has_set_the_allocator_is_obeyed():
    assert faults("keep", MALLOC_MMAP_THRESHOLD_="131072") >= PAGES
