"""The table at the end of a run."""

import io

import numpy as np
from rich.console import Console

from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.report.summary import summary_table

SCORE = MeanAveragePrecision(
    tiou=(0.3, 0.5), labels=("a", "b"), per_class=np.array([[0.5, 0.3], [0.7, 0.1]]), instances=np.array([3, 4])
)


def shown(scores: dict[str, MeanAveragePrecision]) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(summary_table(scores, "mine"))
    return out.getvalue()


def test_every_detector_has_its_row_in_percent():
    text = shown({"teacher": SCORE, "baseline": SCORE})
    assert "mine" in text
    rows = [line for line in text.splitlines() if "teacher" in line or "baseline" in line]
    assert len(rows) == 2
    assert all(part in rows[0] for part in ("flow only", "60.0", "20.0", "40.0"))
    assert "@0.3" in text


def test_the_last_epoch_s_weights_have_a_row_beside_the_chosen_ones():
    rows = [line for line in shown({"baseline": SCORE, "baseline_last": SCORE}).splitlines() if "baseline" in line]
    assert "RGB only, ground truth only" in rows[0]
    assert "baseline after its last epoch" in rows[1]
