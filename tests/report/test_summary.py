"""The table at the end of a run."""

import io

import numpy as np
from rich.console import Console

from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.report.summary import summary_table


def test_every_detector_has_its_row_in_percent():
    score = MeanAveragePrecision(
        tiou=(0.3, 0.5), labels=("a", "b"), per_class=np.array([[0.5, 0.3], [0.7, 0.1]]), instances=np.array([3, 4])
    )
    out = io.StringIO()
    Console(file=out, width=160).print(summary_table({"teacher": score, "baseline": score}, "mine"))
    text = out.getvalue()
    assert "mine" in text
    rows = [line for line in text.splitlines() if "teacher" in line or "baseline" in line]
    assert len(rows) == 2
    assert all(part in rows[0] for part in ("flow only", "60.0", "20.0", "40.0"))
    assert "@0.3" in text
