"""This machine: packages, processors, GPUs, and the room that Ray's object store has."""

import platform
import shutil
import subprocess
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from tadscale.runtime.jobs.doctor.probe import Answer
from tadscale.runtime.jobs.preflight.places import NEEDED
from tadscale.runtime.jobs.preflight.storage import SPILL_LIMIT, spill_folder
from tadscale.runtime.tracking.provenance import code_version, hardware, memory_bytes

OPTIONAL = ("s3fs", "numba", "triton")
SHARED_MEMORY = Path("/dev/shm")
STORE_SHARE = 0.3  # of memory (in a container: of its limit), which Ray takes for its object store


def packages() -> Answer:
    """What is installed, in which version: what jobs need, and what some use."""
    owners = packages_distributions()  # by the name that is imported: cv2 is in opencv-python, too
    versions = {name: _version(name, owners.get(name, [])) for name in (*NEEDED, *OPTIONAL) if find_spec(name)}
    lacking = [name for name in NEEDED if name not in versions]
    if lacking:
        return Answer("fail", f"not installed: {', '.join(lacking)}; pip install 'tadscale[train]'")
    found = [f"python {platform.python_version()}", f"tadscale {code_version()}", *versions.values()]
    without = [name for name in OPTIONAL if name not in versions]
    return Answer("ok", ", ".join(found) + (f"; without {', '.join(without)}" if without else ""))


def machine() -> Answer:
    """Cores, memory and GPUs."""
    return Answer("ok", hardware())


def gpus() -> Answer:
    """Every GPU with its memory, compute capability and driver, and whether this torch computes on it."""
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        if built and (driver := _driver()):
            return Answer("fail", f"driver {driver} is here, and torch (built for CUDA {built}) finds no GPU")
        return Answer("ok", "none" + ("" if built else "; this torch is built for CPUs"))
    architectures = torch.cuda.get_arch_list()
    said, unfit = [], []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        said.append(f"{about.name} ({about.total_memory >> 30} GiB, compute capability {about.major}.{about.minor})")
        if not any(_runs(name, about.major, about.minor) for name in architectures):
            unfit.append(said[-1])
    driver = f"; driver {_driver() or 'unknown'}, CUDA {torch.version.cuda}"
    if unfit:
        return Answer(
            "fail", f"this torch has no code for {', '.join(unfit)}, only for {', '.join(architectures)}{driver}"
        )
    return Answer("ok", ", ".join(said) + driver)


def object_store() -> Answer:
    """Shared memory for Ray's objects, and the disk that it spills to."""
    spill = spill_folder()
    disk = shutil.disk_usage(spill)
    ray_takes = int(STORE_SHARE * memory_bytes())
    shared = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    says = (
        f"{shared >> 20} MiB of shared memory, {disk.free >> 20} MiB free to spill to in {spill} "
        f"({disk.used / disk.total:.0%} full)"
    )
    if disk.used > SPILL_LIMIT * disk.total:
        return Answer(
            "fail", f"{says}: Ray spills nothing above {SPILL_LIMIT:.0%}; make room, or set RAY_TMPDIR to another disk"
        )
    if shared < ray_takes:
        return Answer(
            "warn",
            f"{says}: less shared memory than the {ray_takes >> 20} MiB that Ray takes, so objects lie on "
            "the disk; in containers, enlarge it (--shm-size, an emptyDir of medium Memory)",
        )
    return Answer("ok", says)


def _version(module: str, distributions: list[str]) -> str:
    """The distribution of a module with its version: the one that is named alike, if several hold parts of it."""
    named = [module] if module in distributions else sorted(set(distributions))
    return ", ".join(f"{name} {version(name)}" for name in named) or module


def _runs(architecture: str, major: int, minor: int) -> bool:
    """Whether code of an architecture (`sm_90`, `compute_90`) runs on a capability: of its major version up to its minor,
    or compiled when it is loaded."""
    kind, _, digits = architecture.partition("_")
    if not digits.rstrip("af").isdigit():
        return False
    of_major, of_minor = divmod(int(digits.rstrip("af")), 10)
    if kind == "compute":
        return (of_major, of_minor) <= (major, minor)
    return of_major == major and of_minor <= minor


def _driver() -> str:
    """The NVIDIA driver's version, empty if there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.strip().splitlines() or [""])[0] if done.returncode == 0 else ""
