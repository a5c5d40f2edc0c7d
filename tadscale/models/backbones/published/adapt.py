"""Weights of one input made to fit another: pictures to video, RGB to motion."""

from torch import Tensor


def inflate(weight: Tensor, frames: int) -> Tensor:
    """A 2-D convolution's weight as a 3-D one's, which answers to a still video as the 2-D one does to its picture.

    Source: Carreira and Zisserman, *Quo Vadis, Action Recognition?*, CVPR 2017 (bootstrapping 3-D filters from 2-D ones):
    repeated over time, and divided by the number of repetitions.

    Args:
        weight: `[C_out, C_in, K_y, K_x]`.
        frames: temporal size K_t of the new kernel.

    Returns:
        `[C_out, C_in, K_t, K_y, K_x]`.

    Raises:
        ValueError: a weight of another rank, or no frames.
    """
    _check(weight, 4)
    if frames < 1:
        raise ValueError(f"a temporal kernel has at least one frame, got {frames}")
    return weight[:, :, None].repeat(1, 1, frames, 1, 1) / frames


def adapt_input_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution's weight for another number of input channels, such as 2 of optical flow for 3 of RGB.

    Every new channel gets the mean over the old ones (Wang et al., *Temporal Segment Networks*, ECCV 2016, cross-modality
    pre-training). It is scaled by old / new, which is our choice: equal values in all channels are answered as before. For
    as many channels as there are the weight stays as it is.

    Args:
        weight: `[C_out, C_in, K_y, K_x]` or `[C_out, C_in, K_t, K_y, K_x]`, of a convolution without groups.
        channels: C_new of the new input.

    Returns:
        `[C_out, C_new, ...]`.

    Raises:
        ValueError: a weight of another rank, or no channels.
    """
    _check(weight, 4, 5)
    if channels < 1:
        raise ValueError(f"an input has at least one channel, got {channels}")
    if channels == weight.shape[1]:
        return weight
    share = weight.sum(dim=1, keepdim=True) / channels  # mean * old / new
    return share.repeat_interleave(channels, dim=1)


def _check(weight: Tensor, *ranks: int) -> None:
    if weight.ndim not in ranks:
        wanted = " or ".join(str(rank) for rank in ranks)
        raise ValueError(
            f"a convolution's weight of {wanted} dimensions is wanted, got {list(weight.shape)}: leave out what is none"
        )
