"""Temporal gradient: the difference of two frames, the cheapest motion there is."""

from torch import Tensor

from tadscale.flow.estimator import check_frames, repeat_last

FAST_SPAN_FRAMES = 1
SLOW_SPAN_FRAMES = 7


class TemporalGradient:
    """Motion of three channels: `frame[t] - frame[t + span_frames]`, of the RGB values.

    Source: the temporal gradients of Lee et al., *Decomposed Cross-modal Distillation*, CVPR 2023: a span of one frame
    is their fast gradient, of seven their slow one.
    """

    channels = 3

    def __init__(self, span_frames: int) -> None:
        self.span_frames = span_frames

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames `[B, T, H, W, 3]` uint8 RGB -> differences `[B, 3, T, H, W]` float32 in [-1, 1] (divided by 255).

        The last `span_frames` fields repeat the last difference that the window holds (our choice).
        """
        check_frames(frames, self.span_frames)
        rgb = frames.permute(0, 4, 1, 2, 3).float().div_(255.0)  # [B, 3, T, H, W]
        difference = rgb[:, :, : -self.span_frames] - rgb[:, :, self.span_frames :]  # [B, 3, T - span, H, W]
        return repeat_last(difference, frames.shape[1])

    def fingerprint(self) -> str:
        """See `gradient_fingerprint`."""
        return gradient_fingerprint(self.span_frames)


def gradient_fingerprint(span_frames: int) -> str:
    """The span is the method's only setting."""
    return f"temporal_gradient(span_frames={span_frames})"
