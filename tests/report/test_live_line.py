"""How far a command is: in place on a terminal, seldom in a log, and not at all where it is quick."""

import io

import pytest
from rich.console import Console

from tadscale.report import live_line
from tadscale.report.live_line import CountProgress, format_duration


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75.4, "1:15"), (3700, "1:01:40"), (59.6, "1:00")])
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def told(monkeypatch: pytest.MonkeyPatch, seconds_each: float, *, terminal: bool = False) -> str:
    """What 100 videos of so many seconds leave on a console."""
    clock = [0.0]
    monkeypatch.setattr(live_line.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    with CountProgress("packing", "videos", Console(file=out, width=120, force_terminal=terminal)) as watch:
        for done in range(1, 101):
            clock[0] += seconds_each
            watch(done, 100)
    return out.getvalue()


def test_what_is_quick_says_nothing_in_a_log(monkeypatch):
    assert told(monkeypatch, 0.09) == ""


def test_what_takes_long_says_how_far_it_is_every_ten_seconds(monkeypatch):
    lines = told(monkeypatch, 3.0).splitlines()
    assert lines[0] == "packing    4/100 videos  ETA 4:48"
    assert len(lines) == 25 and lines[-1] == "packing    100/100 videos  ETA 0:00"


def test_a_terminal_sees_every_video_and_keeps_none(monkeypatch):
    seen = told(monkeypatch, 0.01, terminal=True)
    assert "100/100 videos" in seen
    assert seen.endswith("\x1b[2K")  # the line is erased
