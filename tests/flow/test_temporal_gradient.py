"""Temporal gradients against the difference taken frame by frame."""

import pytest
import torch

from tadscale.flow.temporal_gradient import TemporalGradient


@pytest.mark.parametrize("span", [1, 7])
def test_gradient_is_this_frame_minus_the_later_one(span):
    frames = torch.randint(0, 256, (2, 10, 4, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    motion = TemporalGradient(span)(frames)
    assert motion.shape == (2, 3, 10, 4, 5) and motion.dtype == torch.float32
    for t in range(10):
        now = min(t, 9 - span)  # past the last difference, the last is repeated
        for c in range(3):
            want = (frames[:, now, :, :, c].double() - frames[:, now + span, :, :, c].double()) / 255
            torch.testing.assert_close(motion[:, c, t], want.float())


def test_black_to_white_is_minus_one():
    frames = torch.zeros(1, 2, 3, 3, 3, dtype=torch.uint8)
    frames[:, 1] = 255
    assert (TemporalGradient(1)(frames) == -1).all()
    assert (TemporalGradient(1)(frames.flip(1)) == 1).all()


def test_too_short_a_window_is_refused():
    with pytest.raises(ValueError, match="more than 7 frames"):
        TemporalGradient(7)(torch.zeros(1, 7, 8, 8, 3, dtype=torch.uint8))


def test_fingerprints_differ():
    assert TemporalGradient(1).fingerprint() != TemporalGradient(7).fingerprint()
