"""Where a result comes from: which code, which packages, which machine. Recorded as tags of every run."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tadscale

PACKAGES = ("torch", "ray", "deepspeed", "mlflow", "av", "numpy")
# Where Ray looks, too: of cgroups, version 2 and 1. Without a limit the first holds `max`, the second a huge number.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def code_version() -> str:
    """`0.1.0+g1a2b3c4d5e6f` in a git checkout (`.dirty` behind it if files were changed), `0.1.0` where installed."""
    package = Path(tadscale.__file__).parent
    # The checkout must hold this very package: an installed one may lie inside somebody else's repository.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return tadscale.__version__
    commit = _git(package, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return tadscale.__version__
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{tadscale.__version__}+g{commit}" + (".dirty" if changed else "")


def hardware() -> str:
    """This machine in a few words, such as `16 CPUs, 125 GiB, 2 x NVIDIA H200`."""
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    gpus = [f"{names.count(name)} x {name}" for name in sorted(set(names))] or ["no GPU"]
    return ", ".join([f"{len(os.sched_getaffinity(0))} CPUs", f"{memory_bytes() / 2**30:.0f} GiB", *gpus])


def memory_bytes() -> int:
    """Memory in bytes that processes here may take: the machine's, or a container's limit if that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # not there, or `max`: no limit
            memory = min(memory, int(limit.read_text()))
    return memory


def provenance_tags() -> dict[str, str]:
    """Code, packages and hardware of this process."""
    tags = {
        "tadscale.code_version": code_version(),
        "tadscale.python": platform.python_version(),
        "tadscale.hardware": hardware(),
    }
    for package in PACKAGES:
        try:
            tags[f"tadscale.version.{package}"] = version(package)
        except PackageNotFoundError:
            continue  # a run without Ray or DeepSpeed says so by their absence
    return tags


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, or None if it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
