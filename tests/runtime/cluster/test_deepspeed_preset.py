"""Which of DeepSpeed's own settings a preset may hold."""

import pytest

from tadscale.errors import UserError
from tadscale.runtime.cluster.deepspeed_preset import check_preset


@pytest.mark.parametrize("name", ["bf16", "bfloat16", "fp16", "amp"])
def test_16_bit_weights_are_refused_by_name_and_autocast_is_named_in_their_place(name):
    with pytest.raises(UserError, match=rf"\['{name}'\].*torch_autocast"):
        check_preset({name: {"enabled": True}, "zero_optimization": {"stage": 1}})


def test_what_is_switched_off_is_no_fault():
    check_preset({"bf16": {"enabled": False}, "fp16": {}, "torch_autocast": {"enabled": True, "dtype": "bfloat16"}})


@pytest.mark.parametrize("preset", [[], {"zero_optimization": 3}, {"zero_optimization": {"stage": "auto"}}])
def test_what_is_no_preset_is_refused(preset):
    with pytest.raises(UserError, match="preset"):
        check_preset(preset)
