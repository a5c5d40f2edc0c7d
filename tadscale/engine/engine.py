"""What the loop needs of an optimiser wrapper, and the plain PyTorch one."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from tadscale.engine.optim import OptimConfig, build_optimizer, set_learning_rate


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """The whole state of training, free of topology: it loads at any number of workers.

    Attributes:
        step: optimiser steps taken, which is also the number of global batches consumed.
        tensors: full float32 tensors, named `model/NAME`, `exp_avg/NAME`, `exp_avg_sq/NAME`, `ema/NAME`; parameters
            without gradient have no moments (`exp_avg`, `exp_avg_sq`).
    """

    step: int
    tensors: dict[str, Tensor]


class Diverged(RuntimeError):
    """Training has left the finite numbers: what follows would only bury the cause."""


class NonFiniteGradient(Diverged):
    """A gradient is infinite or not a number; the optimiser was not asked, and no weight has changed."""


class Engine(Protocol):
    """The optimiser's side of a training step; `LocalEngine` here, the DeepSpeed one in `runtime/`."""

    model: nn.Module

    def set_lr(self, lr: float) -> None:
        """Use this learning rate from the next step on, a group's factor apart (see `build_optimizer`)."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add this rank's gradients of its mean loss; the ranks' gradients are averaged."""
        ...

    def step(self) -> float:
        """Clip, update, clear the gradients; returns the gradient norm before clipping.

        Raises:
            NonFiniteGradient: on every rank, if any rank's gradient is not finite.
        """
        ...

    def mean(self, values: Tensor) -> Tensor:
        """The average of `values` over the ranks."""
        ...

    def state(self, step: int) -> TrainState:
        """Gather the full state, as copies that no later step changes (every rank must call it)."""
        ...

    def load_state(self, state: TrainState) -> None:
        """Put a gathered state back, whatever the world size that made it."""
        ...


class LocalEngine:
    """One process, plain AdamW: the reference that the distributed engine is tested against."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        self.model = model
        self._clip_norm = config.clip_norm
        self._optimizer = build_optimizer(model, config)

    def set_lr(self, lr: float) -> None:
        """See `Engine`."""
        set_learning_rate(self._optimizer.param_groups, lr)

    def backward(self, loss: Tensor) -> None:
        """See `Engine`."""
        loss.backward()

    def step(self) -> float:
        """See `Engine`."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
        if not norm.isfinite():
            raise NonFiniteGradient
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def mean(self, values: Tensor) -> Tensor:
        """See `Engine`: there is one rank."""
        return values

    def state(self, step: int) -> TrainState:
        """See `Engine`."""
        tensors = {f"model/{name}": value.detach().clone() for name, value in self.model.state_dict().items()}
        for name, parameter in trained_parameters(self.model):
            moments = self._optimizer.state.get(parameter, {})
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}/{name}"] = moments.get(moment, torch.zeros_like(parameter)).detach().clone()
        return TrainState(step=step, tensors=tensors)

    def load_state(self, state: TrainState) -> None:
        """See `Engine`."""
        self.model.load_state_dict(select(state.tensors, "model/"))
        first, second = select(state.tensors, "exp_avg/"), select(state.tensors, "exp_avg_sq/")
        for name, parameter in trained_parameters(self.model):
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": first[name].to(parameter).clone(),
                "exp_avg_sq": second[name].to(parameter).clone(),
            }


def trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that have a gradient, by name: those with moments."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, with the prefix taken off their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
