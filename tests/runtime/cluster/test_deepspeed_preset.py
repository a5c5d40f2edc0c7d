"""Which of DeepSpeed's own settings a preset may hold."""

import pytest

from tadscale.errors import UserError
from tadscale.runtime.cluster.deepspeed_preset import check_preset, precision_of


@pytest.mark.parametrize("name", ["bf16", "bfloat16", "fp16", "amp"])
def test_16_bit_weights_are_refused_by_name_and_autocast_is_named_in_their_place(name):
    with pytest.raises(UserError, match=rf"\['{name}'\].*torch_autocast"):
        check_preset({name: {"enabled": True}, "zero_optimization": {"stage": 1}})


def test_what_is_switched_off_is_no_fault():
    check_preset({"bf16": {"enabled": False}, "fp16": {}, "torch_autocast": {"enabled": True, "dtype": "bfloat16"}})


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize(
    ("autocast", "named"),
    [
        ({"enabled": True, "dtype": "float16"}, "float16"),
        ({"enabled": True, "dtype": "fp16"}, "fp16"),
        ({"enabled": True, "dtype": "float32"}, "float32"),
        ({"enabled": True}, "no dtype"),
        (True, "no dtype"),
    ],
)
def test_autocast_in_anything_but_bfloat16_is_refused_by_name(autocast, named, stage):
    with pytest.raises(UserError, match=rf"torch_autocast in {named}.*bfloat16 is supported"):
        check_preset({"torch_autocast": autocast, "zero_optimization": {"stage": stage}})


@pytest.mark.parametrize("dtype", ["bfloat16", "bf16"])
def test_bfloat16_is_known_by_the_names_that_deepspeed_knows(dtype):
    check_preset({"torch_autocast": {"enabled": True, "dtype": dtype}})


def test_autocast_that_is_off_may_say_anything():
    check_preset({"torch_autocast": {"enabled": False, "dtype": "float16"}})


@pytest.mark.parametrize("preset", [[], {"zero_optimization": 3}, {"zero_optimization": {"stage": "auto"}}])
def test_what_is_no_preset_is_refused(preset):
    with pytest.raises(UserError, match="preset"):
        check_preset(preset)


@pytest.mark.parametrize(
    ("autocast", "precision"),
    [
        ({}, "float32"),
        ({"torch_autocast": False}, "float32"),
        ({"torch_autocast": {"enabled": False, "dtype": "bfloat16"}}, "float32"),
        ({"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}, "bfloat16"),
        ({"torch_autocast": {"enabled": True, "dtype": "bf16"}}, "bfloat16"),
    ],
)
def test_a_preset_says_its_precision_however_it_spells_it(autocast, precision):
    check_preset(autocast)
    assert precision_of(autocast) == precision
