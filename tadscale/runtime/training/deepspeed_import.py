"""DeepSpeed, imported for a device and without what nobody here uses: a worker starts in 10 CPU-seconds instead of 14."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def import_deepspeed(device: str) -> Any:
    """DeepSpeed, ready to initialise engines; must come before anything else in the process imports it.

    Args:
        device: "cpu" or "cuda".
    """
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    with without_module("mlflow"):  # for reports of its autotuner
        import deepspeed
        import deepspeed.ops
    _import_muon()
    if device == "cpu":
        # Else it spends about 30 s on compiling a shared-memory collective, and goes on without it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed("gloo" if device == "cpu" else "nccl", verbose=False)
    return deepspeed


@contextmanager
def without_module(name: str) -> Iterator[None]:
    """While the block runs, a module that was not imported yet cannot be, as where it is not installed."""
    absent = name not in sys.modules
    if absent:
        sys.modules[name] = None  # type: ignore[assignment]  # which import takes for an ImportError
    try:
        yield
    finally:
        if absent:
            del sys.modules[name]


def _import_muon() -> None:
    """Muon, which ZeRO asks for at every step, to tell whether the optimiser is one; its kernels, which would be handed to
    torch.compile as they are imported, and torch's inductor with them, stay as they are (0.19.8)."""
    from deepspeed.runtime import compiler

    compiling = compiler.compile
    compiler.compile = _as_it_is
    try:
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        compiler.compile = compiling


def _as_it_is(*_: Any, **__: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda function: function
