"""The script for a GPU: its bound in time, its exit codes, and the parts that run without one."""

import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import CUDA_TESTS, PARTS, Part, main, run_parts
from benchmarks.motion_overlap import main as overlap
from benchmarks.networks_gpu import tried

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


def test_a_part_that_hangs_leaves_the_others_their_time_and_no_process_behind(capfd, tmp_path):
    grandchild = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {!r}]); time.sleep(60)"
    late = f"import time; time.sleep(3); open({str(tmp_path / 'alive')!r}, 'w')"
    began = time.monotonic()
    assert run_parts((Part("hangs", ("-c", grandchild.format(late)), most_s=1.5), OK), 30) == 1
    assert time.monotonic() - began < 20
    assert "cut off" in (out := capfd.readouterr().out) and out.count(" ok ") == 1
    time.sleep(3)
    assert not (tmp_path / "alive").exists()


def test_a_row_that_fails_is_named_and_the_others_are_measured(capsys):
    def broken() -> None:
        raise ModuleNotFoundError("No module named 'scipy'")

    assert not tried("tadtr", broken)
    assert tried("tags", lambda: None)
    assert "failed: ModuleNotFoundError: No module named 'scipy'" in capsys.readouterr().out


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
