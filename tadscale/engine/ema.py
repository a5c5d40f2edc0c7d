"""Exponential moving average of the weights."""

import torch
from torch import Tensor, nn


class Ema:
    """A running average of a model's floating-point state; other state (counters) follows the model as it is.

    The first steps are averaged with a smaller decay, `(1 + n) / (10 + n)`, so that the average is not held back by the
    random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.tensors: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step` (counted from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            average = self.tensors[name]
            if average.is_floating_point():
                average.lerp_(value.to(average), 1.0 - decay)
            else:
                average.copy_(value)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a stored average; names and shapes must be the model's."""
        for name, average in self.tensors.items():
            average.copy_(tensors[name])
