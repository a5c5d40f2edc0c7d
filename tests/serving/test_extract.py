"""Features from a backbone: chunk by chunk what a whole video gives, at the rows' own frames."""

from functools import partial

import numpy as np
import pytest
import torch

from tadscale.data.sprites import SpritesConfig, draw_video
from tadscale.data.windows import WindowConfig, read_frames
from tadscale.flow.motion import MotionConfig, build_motion, window_motion
from tadscale.models.backbones.base import Backbone
from tadscale.models.backbones.i3d import I3dConfig
from tadscale.serving.extract import stream_rows

LENGTH_S = 9.5
WINDOW = WindowConfig(frames=16, stride_frames=8, fps=5.0, height=32, width=32)


class Local(Backbone):
    """Mean colour of a step's frames and of the step before: it sees `2 * stride` frames, and no further."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride, self.out_channels = stride, 2

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        colour = video.mean(dim=(1, 3, 4))  # [B, T]
        steps = colour[:, :: self.stride]
        before = torch.nn.functional.pad(steps, (1, 0))[:, :-1]
        return torch.stack([steps, before], dim=1)


@pytest.fixture(scope="module")
def video() -> bytes:
    return draw_video(SpritesConfig(duration_s=LENGTH_S, size=32), "train", 0).video


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("motion", [None, "temporal_gradient_fast"])
def test_chunks_give_what_the_whole_video_gives(video: bytes, stride: int, motion: str | None) -> None:
    backbone, total = Local(stride), 48  # ceil(9.5 s * 5)
    made = None if motion is None else build_motion(MotionConfig(name=motion))
    motion_of = None if made is None else partial(window_motion, made)
    rows = np.concatenate(list(stream_rows(backbone, video, LENGTH_S, WINDOW, device="cpu", motion=motion_of)))
    frames = torch.from_numpy(read_frames(video, 0, total, WINDOW))[None]
    whole = backbone(backbone.normalise(frames) if made is None else made(frames))[0].numpy().T
    assert rows.shape == (-(-total // stride), 2)
    assert np.allclose(rows, whole, atol=1e-6)


def test_an_end_of_odd_length_does_not_move_rows(video: bytes) -> None:
    """I3D pads on both sides, by how long what it sees is: 45 frames, and the same 45 with 3 more."""
    torch.manual_seed(0)
    backbone = I3dConfig(width=8).build(3).eval()
    window = WINDOW.model_copy(update={"frames": 64})
    rows, longer = (
        np.concatenate(list(stream_rows(backbone, video, length, window, device="cpu"))) for length in (9.0, 9.5)
    )
    assert (len(rows), len(longer)) == (6, 6)
    assert np.abs(rows[:2] - longer[:2]).mean() < 0.02 * np.abs(np.diff(longer, axis=0)).mean()


def test_a_window_without_room_for_context_is_refused(video: bytes) -> None:
    with pytest.raises(ValueError, match=r"frames = 16 is too short for features: 4 steps of 5 frames"):
        next(stream_rows(Local(5), video, LENGTH_S, WINDOW, device="cpu"))
