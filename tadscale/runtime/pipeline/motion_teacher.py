"""Motion, and the frozen teacher on it: an actor of the pipeline, on a GPU where there is one."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tadscale.data.manifest import Manifest
from tadscale.data.motion_identity import check_same_motion
from tadscale.engine.batch import teacher_columns
from tadscale.errors import UserError
from tadscale.flow.motion import build_motion, window_motion
from tadscale.network import load_network
from tadscale.runtime.pipeline.packets import Columns
from tadscale.runtime.pipeline.teacher_cache import CacheCount, open_teacher_cache
from tadscale.runtime.pipeline.upload import Upload
from tadscale.runtime.pipeline.window_memo import WindowMemo
from tadscale.runtime.stage.plan_spec import ReadSources
from tadscale.runtime.stage.spec import Stage
from tadscale.runtime.stage.teacher_fit import check_fit


class MotionTeacher:
    """Turns a packet's frames into what the mode trains on.

    - `teacher`: motion in place of the frames, float16: 1/2000 of the clip bound, a hundredth of a pixel.
    - `pretrain`: the same beside the frames.
    - `conventional`, `decomposed`: the teacher's feature and predictions beside the frames, and no motion: kilobytes
      instead of megabytes. float32, because predictions hold times in frames, where half precision is coarse.

    The teacher sits outside the training engine: frozen, in eval mode, never in a checkpoint.

    Args:
        stage: what is trained.
        device: where motion and teacher run.
        threads: torch's, in this process.
        memo_bytes: how much of the results may be kept. They are where windows are not augmented and come again.
        read: what another process found in the manifests; asked for where the job names a cache of what the teacher says.

    Raises:
        UserError: motion here is not what it is where the job was started.
    """

    def __init__(
        self, stage: Stage, device: str, threads: int, memo_bytes: int = 0, read: ReadSources | None = None
    ) -> None:
        torch.set_num_threads(threads)
        self._upload = Upload(device)
        self._computing = threading.Lock()
        self._motion = build_motion(stage.job.motion)
        check_same_motion(self._motion, stage.motion_fingerprint)
        self._source = "frames" if stage.flow_url is None else "flow"
        self._teacher = _load_teacher(stage).to(device) if stage.distils else None
        self._dropped = ("flow",) if stage.needs_frames else ("flow", "frames")
        self._memo = WindowMemo(memo_bytes) if memo_bytes and stage.repeats_windows else None
        self._cache = open_teacher_cache(stage, device, read)

    @torch.inference_mode()
    def __call__(self, columns: Columns) -> Columns:
        """One packet's columns, as `fetch_packet` makes them, to those that the training workers get. Two say what each
        window took here, `motion_us` `[n]`, microseconds, 0 where it was remembered, and when that was done,
        `motion_unix_s` `[n]`.

        Threads may call at once: they upload side by side, and compute one at a time. Where a cache of the teacher's words
        is asked first, what it lacks is uploaded when it is computed.
        """
        valid = columns["valid"]
        kept = self._memo is not None or self._cache is not None
        counts = np.zeros((len(valid), len(CacheCount())), np.int64)  # [n, 3]
        took_us = np.zeros(len(valid), np.int64)  # [n]
        if kept and valid.any():
            rows = np.flatnonzero(valid).tolist()
            ahead = {row: self._upload_of(columns, row) for row in rows if self._will_be_made(columns, row)}
            with self._computing:
                added, counts[valid], took_us[valid] = self._remembered(columns, rows, ahead)
        else:
            frames, mask = columns[self._source][valid], columns["mask"][valid]
            if not valid.any():  # the shapes are the makers' to know: ask them about a blank window
                frames, mask = np.zeros_like(columns[self._source][:1]), np.ones_like(columns["mask"][:1])
            uploaded = self._upload(frames)
            with self._computing:
                timed = _Timed(partial(self._make, uploaded, mask))
                added = timed()
            took_us[valid] = -(-timed.took_us // len(mask))
        passed = {name: value for name, value in columns.items() if name not in self._dropped}
        if self._cache is not None:
            passed["teacher_cache"] = counts
        passed |= {"motion_us": took_us, "motion_unix_s": np.full(len(valid), time.time())}
        return passed | {name: _spread(value, valid) for name, value in added.items()}

    def _will_be_made(self, columns: Columns, row: int) -> bool:
        """Whether a window is certainly to be computed: no thread has made it yet, and there is no cache to be asked."""
        return self._cache is None and self._memo is not None and int(columns["window"][row]) not in self._memo

    def _upload_of(self, columns: Columns, row: int) -> Tensor:
        return self._upload(columns[self._source][row : row + 1])

    def _remembered(
        self, columns: Columns, rows: Sequence[int], ahead: Mapping[int, Tensor]
    ) -> tuple[Columns, list[CacheCount], list[int]]:
        """Window by window, for the teacher's last bits depend on how many share a batch: what is made does not depend on
        what was remembered. And what the cache was asked for, and what it took, window by window. Rows that were uploaded
        `ahead` are not once more."""
        windows, counts, took_us = [], [], []
        for row in rows:
            make = partial(self._make_of, columns, row, ahead.get(row))
            recalled, window_us = self._recall(int(columns["window"][row]), make)
            windows.append(recalled)
            took_us.append(window_us)
            counts.append(self._cache.take_count() if self._cache is not None else CacheCount())
        return {name: np.concatenate([window[name] for window in windows]) for name in windows[0]}, counts, took_us

    def _recall(self, window: int, make: Callable[[], Columns]) -> tuple[Columns, int]:
        """From memory, else from the cache, else made; and the microseconds of the latter two."""
        if self._cache is not None:
            make = partial(self._cache.recall, window, make)
        timed = _Timed(make)
        recalled = timed() if self._memo is None else self._memo.recall(window, timed)
        return recalled, timed.took_us

    def _make_of(self, columns: Columns, row: int, uploaded: Tensor | None) -> Columns:
        frames = self._upload_of(columns, row) if uploaded is None else uploaded
        return self._make(frames, columns["mask"][row : row + 1])

    def _make(self, frames: Tensor, mask: NDArray[np.bool_]) -> Columns:
        """Frames (or precomputed motion's pictures) `[v, T, H, W, 3]`, or flow features `[v, T, C]`, and `[v, T]` to the
        columns that are added."""
        motion = window_motion(self._motion, frames, mask.sum(1).tolist())  # [v, C, T, H, W]
        if self._teacher is None:
            return {"motion_fields": motion.to(torch.float16).cpu().numpy()}
        output = self._teacher(motion, torch.from_numpy(mask).to(motion.device))
        return {
            name: (value.float() if value.is_floating_point() else value).cpu().numpy()
            for name, value in sorted(teacher_columns(output).items())
        }


class _Timed:
    """Makes something, if it is asked to, and knows how long that took. What is made lies in the CPU's memory: a GPU has
    done its part by then."""

    def __init__(self, make: Callable[[], Columns]) -> None:
        self._make = make
        self.took_us = 0

    def __call__(self) -> Columns:
        began_s = time.perf_counter()
        made = self._make()
        self.took_us = max(1, round((time.perf_counter() - began_s) * 1e6))
        return made


def _spread(values: NDArray, valid: NDArray[np.bool_]) -> NDArray:
    """Rows of the valid windows `[v, ...]` to all windows `[n, ...]`, zeros elsewhere."""
    if valid.all():
        return values
    spread = np.zeros((len(valid), *values.shape[1:]), values.dtype)
    spread[valid] = values[: int(valid.sum())]
    return spread


def _load_teacher(stage: Stage) -> nn.Module:
    assert stage.teacher_url is not None
    network, _ = load_network(stage.teacher_url)
    return network


def check_teacher(stage: Stage, manifest: Manifest) -> None:
    """Refuse a teacher that this stage cannot learn from, before anything is started.

    Raises:
        UserError: there is none, or it differs in motion, sampling, classes or network.
    """
    teacher = stage.teacher
    if teacher is None:
        raise UserError(f"mode {stage.mode} distils a teacher, and there is none: train one first, or set teacher.url")
    if not teacher.reads_motion:
        raise UserError(f"teacher.url: {stage.teacher_url} is no teacher: it was trained as {teacher.mode}, on RGB")
    check_fit(teacher, stage.network(manifest.classes), str(stage.teacher_url))
