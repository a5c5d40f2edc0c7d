"""What a frozen teacher says of windows, kept in storage: made by one run, read by all that would make the same.

An entry is a file: the digest of its name and content, then the content (safetensors). It appears whole, under its name, or
not at all (`write_bytes`), so processes write at once and die as they like; two that make the same entry write the same
bytes. What does not have its digest is made again, and written in its place.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from safetensors.numpy import load, save

from tadscale.data.faults import Retry, StorageError
from tadscale.data.plan import Plan
from tadscale.data.storage import join, read_bytes, write_bytes
from tadscale.runtime.pipeline.packets import Columns
from tadscale.runtime.stage.plan_spec import ReadSources, open_plan
from tadscale.runtime.stage.spec import Stage

FORMAT = 1  # raised when a window's columns, or how they are computed, mean something else
PER_FOLDER = 1000  # a folder of a million files is slow to list
DIGEST_BYTES = hashlib.sha256().digest_size
PATIENCE = Retry(attempts=2, total_s=10.0)  # making it again takes a second, not a minute

log = logging.getLogger(__name__)


class CacheCount(NamedTuple):
    """What became of the windows that a cache was asked for."""

    hits: int = 0
    """Read."""
    made: int = 0
    """Computed, whether or not there was room to keep them."""
    damaged: int = 0
    """Of those, read first and found to be something else than was written."""


class TeacherCache:
    """Results by window, in storage. Has `WindowMemo`'s interface, and stands behind it.

    Storage that is away or full ends no run: the cache is left alone from then on, with a warning, and results are made.

    Args:
        url: folder of what is asked here (see `cache_key`).
        max_bytes: the most that this folder may hold. Entries of one folder are alike in size, so that every writer knows
            without asking which windows, by number, have a place.
    """

    def __init__(self, url: str, max_bytes: int) -> None:
        self._url, self._max_bytes = url, max_bytes
        self._count, self._away = CacheCount(), False

    def recall(self, window: int, make: Callable[[], Columns]) -> Columns:
        """The result for a window, numbered as in the plan: the one kept, or what `make` returns. Not to be written to."""
        name = f"{window // PER_FOLDER:06d}/{window % PER_FOLDER:03d}"
        data = self._read(name)
        if data is not None and _digest(name, data[DIGEST_BYTES:]) == data[:DIGEST_BYTES]:
            self._add(hits=1)
            return dict(sorted(load(data[DIGEST_BYTES:]).items()))
        self._add(made=1, damaged=int(data is not None))
        result = make()
        # A transposed array is saved as its memory lies, and would come back as another.
        self._write(window, name, save({key: np.ascontiguousarray(array) for key, array in result.items()}))
        return result

    def take_count(self) -> CacheCount:
        """What was counted since it was last asked."""
        count, self._count = self._count, CacheCount()
        return count

    def _add(self, **more: int) -> None:
        self._count = CacheCount(*map(sum, zip(self._count, CacheCount(**more), strict=True)))

    def _read(self, name: str) -> bytes | None:
        if self._away:
            return None
        try:
            return read_bytes(join(self._url, name), retry=PATIENCE)
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                self._leave(error)
            return None

    def _write(self, window: int, name: str, content: bytes) -> None:
        data = _digest(name, content) + content
        if self._away or (window + 1) * len(data) > self._max_bytes:
            return
        try:
            write_bytes(join(self._url, name), data, retry=PATIENCE)
        except OSError as error:  # a full disk is no fault of storage's
            self._leave(error)

    def _leave(self, error: OSError) -> None:
        self._away = True
        log.warning("teacher.cache is not used any more in this process: %s", error)


def open_teacher_cache(stage: Stage, device: str, read: ReadSources | None = None) -> TeacherCache | None:
    """The cache of a stage that distils, where its job names one.

    Args:
        stage: what is trained.
        device: where motion and teacher run.
        read: what another process found in the manifests, which are not read as a whole then.

    Raises:
        UserError: see `open_plan`.
        StorageError: the storage of the manifests cannot be reached.
    """
    config = stage.job.teacher.cache
    if config is None or not stage.distils:
        return None
    _, plan = open_plan(stage.plan, read)
    return TeacherCache(join(config.url, cache_key(stage, plan, device)), config.bytes)


def cache_key(stage: Stage, plan: Plan, device: str) -> str:
    """A digest of all that decides what the teacher says of the plan's windows, to the last bit but for torch's threads.

    The teacher by its weights and its network, motion by its fingerprint, windows by their settings (augmentation among
    them), the manifest's digest, and every window's video, start and valid frames.
    """
    assert stage.teacher is not None
    facts = {
        "format": FORMAT,
        "teacher": [stage.teacher.weights_sha256, stage.teacher.model.model_dump(mode="json")],
        "motion": stage.motion_fingerprint,
        "settings": plan.settings_digest,
        "manifest": plan.manifest_digest,
        "windows": plan.windows.digest,
        "made by": _machine(device),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _machine(device: str) -> str:
    """What computes: sums come out differently, in their last bits, on other devices and under other versions of torch."""
    where = torch.device(device)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__} on {where.type} {name}"


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()
