"""What is kept away from DeepSpeed while it is imported."""

import importlib
import json

import pytest

from tadscale.runtime.training.deepspeed_import import without_module


def test_a_module_is_away_for_a_while_and_one_that_is_there_stays():
    with without_module("this"), pytest.raises(ImportError):
        importlib.import_module("this")
    assert importlib.import_module("this").s
    with without_module("json"):
        assert importlib.import_module("json") is json
