"""A block's insides kept for the way back, or computed again."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def through(block: nn.Module, *inputs: object, saving: bool) -> Tensor:
    """`block(*inputs)`, of which only the inputs are kept where memory is to be saved (Chen et al. 2016).

    The blocks draw no random numbers, so no random state is kept.
    """
    if saving and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return block(*inputs)
