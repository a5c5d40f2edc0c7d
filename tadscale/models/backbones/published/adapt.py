"""Weights of one input made to fit another: RGB to motion."""

from torch import Tensor


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
    if weight.ndim not in (4, 5):
        raise ValueError(
            f"a convolution's weight of 4 or 5 dimensions is wanted, got {list(weight.shape)}: leave out what is none"
        )
    if channels < 1:
        raise ValueError(f"an input has at least one channel, got {channels}")
    if channels == weight.shape[1]:
        return weight
    share = weight.sum(dim=1, keepdim=True) / channels  # mean * old / new
    return share.repeat_interleave(channels, dim=1)
