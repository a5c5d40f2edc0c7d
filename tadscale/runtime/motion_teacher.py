"""Motion, and the frozen teacher on it: an actor of the pipeline, on a GPU where there is one."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tadscale.data.manifest import Manifest
from tadscale.engine.batch import TEACHER_PREFIX
from tadscale.flow.motion import build_motion
from tadscale.runtime.packets import Columns
from tadscale.runtime.stage import StageSpec
from tadscale.runtime.weights import load_network, read_spec


class MotionTeacher:
    """Turns a packet's frames into what the mode trains on.

    - `teacher`: motion in place of the frames, float16: 1/2000 of the clip bound, a hundredth of a pixel.
    - `conventional`, `decomposed`: the teacher's feature and predictions beside the frames, and no motion: kilobytes
      instead of megabytes. float32, because predictions hold times in frames, where half precision is coarse.

    The teacher sits outside the training engine: frozen, in eval mode, never in a checkpoint.
    """

    def __init__(self, spec: StageSpec, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device = device
        self._motion = build_motion(spec.motion)
        self._teacher = _load_teacher(spec).to(device) if spec.distils else None

    @torch.inference_mode()
    def __call__(self, columns: Columns) -> Columns:
        """One packet's columns, as `fetch_packet` makes them, to those that the training workers get."""
        valid = columns["valid"]
        frames = torch.from_numpy(columns["frames"][valid]).to(self._device)  # [v, T, H, W, 3]
        if self._teacher is None:
            passed = {name: value for name, value in columns.items() if name != "frames"}
            return passed | {"motion": self._motion_of(frames, columns["frames"].shape, valid)}
        return columns | self._targets(frames, torch.from_numpy(columns["mask"].copy()).to(self._device), valid)

    def _motion_of(self, frames: Tensor, shape: tuple[int, ...], valid: NDArray[np.bool_]) -> NDArray[np.float16]:
        n, t, h, w, _ = shape
        motion = np.zeros((n, self._motion.channels, t, h, w), np.float16)
        if valid.any():
            motion[valid] = self._motion(frames).to(torch.float16).cpu().numpy()
        return motion

    def _targets(self, frames: Tensor, mask: Tensor, valid: NDArray[np.bool_]) -> Columns:
        assert self._teacher is not None
        if not valid.any():  # the shapes are the teacher's to know: ask it about a blank window
            frames, rows = frames.new_zeros((1, *frames.shape[1:])), torch.ones_like(mask[:1])
        else:
            rows = mask[torch.from_numpy(valid)]
        output = self._teacher(self._motion(frames), rows)
        made = {"feature": output.feature} | output.predictions
        return {TEACHER_PREFIX + name: _spread(value, valid) for name, value in made.items()}


def _spread(values: Tensor, valid: NDArray[np.bool_]) -> NDArray:
    """Rows of the valid windows `[v, ...]` to all windows `[n, ...]`, zeros elsewhere."""
    array = values.float().cpu().numpy() if values.is_floating_point() else values.cpu().numpy()
    spread = np.zeros((len(valid), *array.shape[1:]), array.dtype)
    spread[valid] = array[: int(valid.sum())]
    return spread


def _load_teacher(spec: StageSpec) -> nn.Module:
    assert spec.teacher_url is not None
    network, _ = load_network(spec.teacher_url)
    return network


def check_teacher(spec: StageSpec, manifest: Manifest) -> None:
    """Refuse a teacher that this stage cannot learn from, before anything is started.

    Raises:
        ValueError: there is none, or it differs in motion, sampling, classes or network.
    """
    if spec.teacher_url is None:
        raise ValueError(f"mode {spec.mode} distils a teacher, and there is none: train one first, or set teacher_url")
    teacher = read_spec(spec.teacher_url)
    sampling = ("frames", "fps", "height", "width")
    pairs = {
        "motion": (teacher.motion, spec.motion),
        **{f"window.{name}": (getattr(teacher.window, name), getattr(spec.window, name)) for name in sampling},
        "classes": (teacher.classes, manifest.classes),
        "model.dim": (teacher.model.dim, spec.model.dim),
        "model.head": (teacher.model.head, spec.model.head),
        "model.backbone.stride": (teacher.model.backbone.stride, spec.model.backbone.stride),
    }
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise ValueError(
                f"the teacher of {spec.teacher_url} has another {name} than this stage ({theirs} and {ours}): a teacher "
                "does not transfer. Use its settings, or train a teacher with these"
            )
