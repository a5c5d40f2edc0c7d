"""DeepSpeed's own settings, kept apart from the job's: which of them a preset may hold."""

from collections.abc import Mapping
from typing import Any

from tadscale.errors import UserError

ZERO_1: dict[str, Any] = {"zero_optimization": {"stage": 1}}
"""The default on CPUs: optimiser state spread over the ranks, nothing to compile."""
ZERO_1_BFLOAT16: dict[str, Any] = ZERO_1 | {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}
"""The default on GPUs: the same, the network computing in bfloat16, weights and optimiser in float32."""
JOBS = (
    "optimizer",
    "scheduler",
    "gradient_clipping",
    "gradient_accumulation_steps",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
)
"""Decided by the job file."""
HALF_WEIGHTS = ("bf16", "bfloat16", "fp16", "amp")
"""Settings that cast the weights themselves, which the engine, the moving average and the checkpoint hold in float32."""

BFLOAT16 = ("bfloat16", "bf16", "torch.bfloat16")
"""DeepSpeed's names of what the arithmetic may be halved to."""


def check_preset(preset: Mapping[str, Any]) -> None:
    """Refuse a preset that `DeepSpeedEngine` cannot honour. Raises `UserError`."""
    if not isinstance(preset, Mapping):
        raise UserError(f"the DeepSpeed preset is a mapping of settings, this is {type(preset).__name__}")
    taken = [key for key in JOBS if key in preset]
    if taken:
        raise UserError(
            f"the DeepSpeed preset sets {taken}, which the job file decides (optim.*): remove them from the preset"
        )
    halved = [key for key in HALF_WEIGHTS if _enabled(preset.get(key))]
    if halved:
        raise UserError(
            f"the DeepSpeed preset switches on {halved}, which makes the weights 16 bits wide; they stay float32 here, and "
            'the arithmetic is halved instead: write "torch_autocast": {"enabled": true, "dtype": "bfloat16"} in its place '
            "(cluster/deepspeed/zero1.json)"
        )
    _check_autocast(preset.get("torch_autocast"))
    zero = preset.get("zero_optimization", {})
    stage = zero.get("stage", 0) if isinstance(zero, Mapping) else zero
    if stage not in (0, 1, 2):
        raise UserError(
            f"the DeepSpeed preset asks for ZeRO stage {stage}; 0, 1 and 2 are supported. Stage 3 spreads the weights "
            "themselves, and their moving average and the checkpoint, which knows nothing of ranks, need them whole: use "
            "stage 2 (cluster/deepspeed/zero2.json)"
        )


def _check_autocast(setting: Any) -> None:
    """Refuse arithmetic of another width, or of none: torch's own is float16 on GPUs."""
    if not _enabled(setting):
        return
    dtype = setting.get("dtype") if isinstance(setting, Mapping) else None
    if dtype not in BFLOAT16:
        raise UserError(
            f"the DeepSpeed preset asks for torch_autocast in {dtype or 'no dtype of its own'}; bfloat16 is supported. In "
            "float16 DeepSpeed scales the loss up until gradients overflow, and an overflow ends a training as one that "
            'diverged: write "torch_autocast": {"enabled": true, "dtype": "bfloat16"} (cluster/deepspeed/zero1.json)'
        )


def precision_of(preset: Mapping[str, Any]) -> str:
    """What networks compute in under a preset that `check_preset` passed: `bfloat16`, however it is spelt, or `float32`."""
    return "bfloat16" if _enabled(preset.get("torch_autocast")) else "float32"


def _enabled(setting: Any) -> bool:
    """Whether a part of a preset is switched on: DeepSpeed's own default is off."""
    return bool(setting.get("enabled", False)) if isinstance(setting, Mapping) else bool(setting)
