"""DeepSpeed behind the loop's `Engine` protocol, with a state that knows nothing of ranks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tadscale.engine.autocast import in_float32
from tadscale.engine.engine import NonFiniteGradient, TrainState, select, trained_parameters
from tadscale.engine.optim import OptimConfig, build_optimizer, set_learning_rate
from tadscale.runtime.cluster.deepspeed_preset import ZERO_1, check_preset
from tadscale.runtime.training.deepspeed_import import import_deepspeed

MOMENTS = ("exp_avg", "exp_avg_sq")


class DeepSpeedEngine:
    """One rank's DeepSpeed engine.

    Args:
        model: the same on every rank (same seed).
        config: optimiser settings.
        micro_batch: windows a rank trains in one step.
        preset: DeepSpeed's own settings: ZeRO stage, offload, autocast.
        device: "cpu" or "cuda".
    """

    def __init__(
        self,
        model: nn.Module,
        config: OptimConfig,
        *,
        micro_batch: int,
        preset: Mapping[str, Any] = ZERO_1,
        device: str,
    ) -> None:
        check_preset(preset)
        deepspeed = import_deepspeed(device)
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=build_optimizer(model, config),
            config=_complete(preset, config, micro_batch),
            dist_init_required=False,
        )
        self._module: nn.Module = self._engine.module
        self._clip_norm = config.clip_norm
        self._zero = bool(self._engine.zero_optimization())
        if self._zero:  # which looks at gradients itself, but in float32 only when asked to
            self._engine.optimizer.check_grad_overflow = True
        self.model: nn.Module = _Routed(self._engine)
        self._reset_moments(step=0)

    def set_lr(self, lr: float) -> None:
        """See `Engine`."""
        set_learning_rate(self._engine.optimizer.param_groups, lr)

    def backward(self, loss: Tensor) -> None:
        """See `Engine`."""
        self._engine.backward(loss)

    def step(self) -> float:
        """See `Engine`."""
        if not self._zero:
            norm = self._local_norm()
            if not norm.isfinite():
                raise NonFiniteGradient
            self._engine.step()
            return float(norm)
        self._engine.step()
        if self._engine.optimizer.overflow:  # agreed on by all ranks; DeepSpeed would leave the step out and go on
            raise NonFiniteGradient
        return float(self._engine.get_global_grad_norm())

    def mean(self, values: Tensor) -> Tensor:
        """See `Engine`."""
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total / torch.distributed.get_world_size()

    @torch.no_grad()
    def state(self, step: int) -> TrainState:
        """See `Engine`. Every rank gets all of it."""
        tensors = {f"model/{name}": value.detach().clone() for name, value in self._module.state_dict().items()}
        for kind in ("model", *MOMENTS):
            tensors |= {f"{kind}/{name}": value for name, value in self._whole(kind).items()}
        return TrainState(step=step, tensors=tensors)

    def load_state(self, state: TrainState) -> None:
        """See `Engine`: each rank takes its own part of the full tensors."""
        self._module.load_state_dict(select(state.tensors, "model/"))
        moments = {moment: select(state.tensors, f"{moment}/") for moment in MOMENTS}
        self._reset_moments(state.step)
        for name, parameter in self._trained():
            values = {moment: moments[moment][name].to(parameter.device) for moment in MOMENTS}
            if self._zero:
                self._put(parameter, state.tensors[f"model/{name}"].to(parameter.device), values)
            else:
                for moment, value in values.items():
                    self._engine.optimizer.state[parameter][moment].copy_(value)

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return trained_parameters(self._module)

    def _whole(self, kind: str) -> dict[str, Tensor]:
        """The trained parameters in float32, or one of their moments, whole."""
        trained = self._trained()
        if not self._zero:
            held = {name: self._engine.optimizer.state[p] | {"model": p.detach()} for name, p in trained}
            return {name: state[kind].clone() for name, state in held.items()}
        # One reduction for all of them: DeepSpeed's safe_get_full_* reduce parameter by parameter, which took 1.4 s over
        # gloo where this takes a few milliseconds (100 small parameters, 2 ranks).
        flat = torch.zeros(sum(p.numel() for _, p in trained), device=trained[0][1].device)
        parts = flat.split([p.numel() for _, p in trained])
        for part, (_, parameter) in zip(parts, trained, strict=True):
            fragment: Any = parameter._hp_mapping  # type: ignore[attr-defined]  # this rank's part of the parameter; None if it has none
            if fragment is not None:
                where = fragment.lp_fragment_address
                value = fragment.get_hp_fragment(None if kind == "model" else kind)
                part.narrow(0, where.start, where.numel).copy_(value)
        torch.distributed.all_reduce(flat)
        return {name: part.view_as(p).clone() for part, (name, p) in zip(parts, trained, strict=True)}

    def _put(self, parameter: nn.Parameter, value: Tensor, moments: Mapping[str, Tensor]) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        safe_set_full_fp32_param(parameter, value)
        for moment, tensor in moments.items():
            safe_set_full_optimizer_state(parameter, tensor, moment)

    def _reset_moments(self, step: int) -> None:
        """Make Adam's state ahead of its first step, and link ZeRO's views to it.

        DeepSpeed 0.19 links them itself after the first step of the first parameter group, when the other groups have
        no state yet: with two groups, as here, the second's moments could then not be gathered.
        """
        inner = self._engine.optimizer.optimizer if self._zero else self._engine.optimizer
        for group in inner.param_groups:
            for parameter in group["params"]:
                inner.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    **{moment: torch.zeros_like(parameter) for moment in MOMENTS},
                }
        if self._zero:
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _local_norm(self) -> Tensor:
        """Stage 0 does not report the norm; its gradients are averaged, and whole on every rank."""
        return nn.utils.get_total_norm([p.grad for _, p in self._trained() if p.grad is not None])


class _Routed(nn.Module):
    """The module under its own names, called through DeepSpeed (whose hooks sit in its engine's `forward`)."""

    _engine: Any

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self.__dict__["_engine"] = engine  # not as a submodule: names of tensors stay the model's own
        self._hooks: list[Any] = []

    def forward(self, *inputs: Any) -> Any:
        outputs = self._engine(*inputs)
        self._hooks = [hook for value in tree_leaves(outputs) for hook in getattr(value, "_backward_hook_managers", ())]
        return in_float32(outputs)

    @contextmanager
    def probing(self) -> Iterator[None]:
        """While the block runs, gradients that are asked for at the outputs are none of DeepSpeed's.

        It takes the first gradient that reaches an output for the beginning of its own backward pass, and ZeRO's buckets
        for filled: the real one then ended in an index error (0.19.8, stages 1 and 2), or is refused (stage 0).
        """
        self._engine._backward_prologue = lambda: None
        try:
            yield
        finally:
            del self._engine._backward_prologue
            for hook in self._hooks:
                hook.reset()

    def train(self, mode: bool = True) -> "_Routed":
        self._engine.train(mode)
        return self

    def get_submodule(self, target: str) -> nn.Module:
        return self._engine.module.get_submodule(target)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self._engine.module.state_dict(*args, **kwargs)


def _complete(preset: Mapping[str, Any], config: OptimConfig, micro_batch: int) -> dict[str, Any]:
    # wall_clock_breakdown and steps_per_print: DeepSpeed logs nothing of its own in the loop.
    return {
        "steps_per_print": 1 << 62,
        **preset,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_clipping": config.clip_norm,
        "zero_allow_untested_optimizer": True,
    }
