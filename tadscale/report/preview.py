"""Clips of what the teacher sees: frames, their motion and their temporal gradient side by side, actions underneath."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tadscale.data.encode import encode_h264
from tadscale.data.flow_windows import load_flow
from tadscale.data.manifest import Manifest
from tadscale.data.quarantine import DataError
from tadscale.data.windows import Window, WindowConfig, load_window, tile
from tadscale.flow.colour import motion_colours
from tadscale.flow.motion import Motion, MotionConfig, build_motion, window_motion
from tadscale.report.palette import class_colours

CLIP_FRAMES = 100
MIN_HEIGHT = 160  # small pictures are enlarged to at least this, pixel by pixel
STRIP = 8  # pixels of the strip that shows the actions
GAP = 4  # pixels between the pictures


class Preview(NamedTuple):
    """One video's clip, and its first picture within an action."""

    key: str
    clip_mp4: bytes
    still_png: bytes


def previews(manifest: Manifest, window: WindowConfig, motion: MotionConfig, count: int) -> Iterator[Preview]:
    """Clips of the first `count` videos that can be read; a damaged one is passed over, training will count it.

    Of features there are none: they show nothing to an eye.

    Raises:
        StorageError: the storage cannot be reached.
    """
    if window.features is not None:
        return
    clips, modality = 0, build_motion(motion)
    table = tile(manifest, window)
    _, firsts = np.unique(table.video, return_index=True)
    for index in firsts:
        if clips == count:
            return
        row = manifest.row(int(table.video[index]))
        start, valid = int(table.start_frames[index]), int(table.valid_frames[index])
        try:
            cut = load_window(row, start, valid, window)
            moving = load_flow(motion.flow_url, row.key, start, valid, window) if motion.flow_url else cut.frames
        except DataError:
            continue
        pictures = side_by_side(cut, modality, manifest.classes, moving)
        yield Preview(row.key, encode_h264(pictures, window.fps, crf=18), _still(pictures, cut))
        clips += 1


def side_by_side(
    window: Window, motion: Motion, classes: Sequence[str], moving: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Pictures `[T, H', W', 3]` of a window's first frames, at most `CLIP_FRAMES`: RGB, the motion, the temporal gradient.

    Where the motion is itself a temporal gradient, it is not shown twice. Both sides are even, as H.264 wants them.

    Args:
        window: what is shown.
        motion: what the teacher sees.
        classes: of the data set, for the colours of the actions.
        moving: `[T, H, W, 3]` what the motion is made of; by default the window's frames.
    """
    length = min(CLIP_FRAMES, int(window.mask.sum()))  # without the padding of a short video
    frames = torch.from_numpy(window.frames[:length]).unsqueeze(0)  # [1, T, H, W, 3]
    gradient = build_motion(MotionConfig(name="temporal_gradient_fast"))
    source = frames if moving is None else torch.from_numpy(moving[:length]).unsqueeze(0)
    shown = [frames[0], motion_colours(window_motion(motion, source, [length])[0])]
    if motion.channels == 2:
        shown.append(motion_colours(window_motion(gradient, frames, [length])[0]))
    scale = max(1, -(-MIN_HEIGHT // frames.shape[2]))
    gap = np.full((frames.shape[1], frames.shape[2] * scale, GAP, 3), 255, np.uint8)
    parts: list[NDArray[np.uint8]] = []
    for pictures in shown:
        parts += [pictures.numpy().repeat(scale, axis=1).repeat(scale, axis=2), gap]
    row = np.concatenate(parts[:-1], axis=2)  # [T, H, W, 3]
    whole = np.concatenate([row, _strips(window, classes, length=row.shape[0], width=row.shape[2])], axis=1)
    return np.pad(whole, ((0, 0), (0, whole.shape[1] % 2), (0, whole.shape[2] % 2), (0, 0)), mode="edge")


def _strips(window: Window, classes: Sequence[str], *, length: int, width: int) -> NDArray[np.uint8]:
    """`[T, STRIP, W, 3]`: the whole clip's actions from left to right in their classes' colours, a mark at the time."""
    colours = class_colours(classes)
    strip = np.full((STRIP, width, 3), 230, np.uint8)
    for (start, end), label in zip(window.segments_frames, window.labels, strict=True):
        left, right = (min(width, round(float(at) / length * width)) for at in (start, end))
        strip[:, left:right] = [int(colours[classes[label]][at : at + 2], 16) for at in (1, 3, 5)]
    strips = np.repeat(strip[None], length, axis=0)
    for frame in range(length):
        at = round(frame / length * width)
        strips[frame, :, max(0, at - 1) : at + 1] = 0
    return strips


def _still(pictures: NDArray[np.uint8], window: Window) -> bytes:
    """The picture in the middle of the clip's first action, or of the clip, as PNG."""
    middles = [round(float(start + end) / 2) for start, end in window.segments_frames]
    at = min((middle for middle in middles if middle < len(pictures)), default=len(pictures) // 2)
    import cv2  # late: every job imports this module, and draws nothing unless it is asked to

    done, data = cv2.imencode(".png", cv2.cvtColor(pictures[at], cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()
