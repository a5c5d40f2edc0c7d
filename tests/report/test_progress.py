"""The live line: what it shows, and how often where it cannot be redrawn."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tadscale.engine.loop import StepRecord
from tadscale.report.progress import StageProgress, format_data, format_record


def _record(step: int) -> StepRecord:
    return StepRecord(
        step=step,
        total_steps=100,
        epoch=0,
        losses={"loss": 1.25},
        lr=1e-3,
        grad_norm=2.0,
        windows_per_s=7.5,
        data_wait_share=0.25,
        memory_mib=512.0,
        eta_s=75.0,
        mean_windows_per_s=5.0,
        gpu_memory_mib=3000.0,
    )


def test_a_record_says_where_it_stands_how_fast_it_is_and_what_it_waits_for():
    line = format_record("student", _record(9))
    for part in (
        "student",
        "10/100",
        "1.250",
        "1.0e-03",
        "7.5 windows/s (mean 5.0)",
        "25%",
        "512 MiB + GPU 3000 MiB",
        "1:15",
    ):
        assert part in line
    assert len(line) <= 140


DATA = {
    "decoded_frames_per_s": 639.6,
    "fetched_bytes_per_s": 3.21e6,
    "load_wait_share": 0.2,
    "motion_wait_share": 0.04,
    "window_p50_s": 0.25,
    "window_p95_s": 1.2,
}


def test_where_training_waits_it_is_said_for_what_and_how_long_a_window_takes():
    line = format_record("student", replace(_record(9), data=DATA))
    assert "data wait 25% (20% load, 4% motion; window p50 0.25 s, p95 1.20 s), 640 frames/s, 3.2 MB/s  512" in line
    assert "data wait 1%, 640 frames/s, 3.2 MB/s  512" in format_record(
        "student", replace(_record(9), data=DATA, data_wait_share=0.01)
    )


def test_what_is_not_as_it_should_be_is_said_and_nothing_else():
    wrong = {"cached_share": 0.4, "retries": 3.0, "quarantined_videos": 2.0}
    assert format_data(replace(_record(9), data=wrong)) == "data wait 25%, 40% cached, 3 retries, 2 bad videos"
    assert format_data(replace(_record(9), data=dict.fromkeys(wrong | DATA, 0.0))) == "data wait 25%"


def test_a_log_gets_few_lines_and_always_the_last():
    out = io.StringIO()
    with StageProgress("student", Console(file=out, width=200)) as progress:
        for step in range(100):
            progress.show(_record(step))
    lines = out.getvalue().splitlines()
    assert len(lines) == 2  # the first, and the last when the stage ends: ten seconds have not passed
    assert "1/100" in lines[0]
    assert "100/100" in lines[1]
    assert "done in" in lines[1]


def test_a_stage_that_fails_is_not_called_done():
    out = io.StringIO()
    with pytest.raises(RuntimeError), StageProgress("student", Console(file=out, width=200)) as progress:
        progress.show(_record(3))
        raise RuntimeError
    assert "stopped after" in out.getvalue()
    assert "done" not in out.getvalue()
