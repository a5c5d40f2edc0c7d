"""The script for a GPU: its bound in time, its exit codes, and the parts that run without one."""

import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import CUDA_TESTS, PARTS, Part, main, run_parts
from benchmarks.motion_overlap import main as overlap

OK = Part("quick", ("-c", "pass"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(capsys):
    assert main([]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err


def test_every_part_is_reported_and_one_failure_is_a_failure(capfd):
    assert run_parts((OK,), 60) == 0
    assert run_parts((Part("broken", ("-c", "raise SystemExit(3)")), OK), 60) == 1
    out = capfd.readouterr().out
    assert "failed (3)" in out and out.count(" ok ") == 2


def test_it_ends_in_time(capfd):
    assert run_parts((Part("slow", ("-c", "import time; time.sleep(60)")), OK), 1.0) == 1
    out = capfd.readouterr().out
    assert "cut off" in out and "no time left" in out


def test_the_parts_are_there():
    for part in PARTS:
        assert part.arguments[0] == "-m"
        if part.arguments[1] != "pytest":
            __import__(part.arguments[1])
            assert sys.modules[part.arguments[1]].main
    for path in CUDA_TESTS:
        assert "cuda" in Path(path).read_text()


def test_overlap_is_measured_on_a_cpu_too(capsys):
    overlap(["--device", "cpu", "--size", "32", "--packets", "2"])
    assert "ratio" in capsys.readouterr().out
