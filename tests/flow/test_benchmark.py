"""The flow benchmark runs, and says what it could not measure."""

import cv2

from benchmarks.flow import main


def test_benchmark_prints_a_row_for_every_method(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    main(["--sizes", "48x64"])
    printed = capsys.readouterr().out
    assert "height 48 x width 64" in printed
    for method in ("tvl1 3 x 20 (default)", "dis medium", "temporal gradient, slow", "precomputed"):
        assert method in printed
    assert ("left out" in printed) != hasattr(cv2, "optflow")
