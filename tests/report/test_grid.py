"""A grid's table: what stands in its cells, worked out by hand."""

import pytest

from tadscale.metrics.bootstrap import PairedBootstrap
from tadscale.report.grid import GridRow, csv_table, markdown_table

COMPARED = PairedBootstrap(challenger=0.6, champion=0.5, low=0.02, high=0.18, confidence=0.95, better_share=0.99)
ROW = GridRow(
    ("tadtr",),
    [3, 4],
    {"baseline": [0.4, 0.6], "two_stream": [0.9, 0.9], "decomposed": [0.6, 0.6], "teacher": [0.5, 0.7]},
    {"decomposed": COMPARED},
)


def test_means_spread_interval_and_share_of_the_gap() -> None:
    heads, _, line = markdown_table(["head"], [ROW]).splitlines()
    assert heads == (
        "| head | seeds | teacher | baseline | decomposed | two_stream | decomposed - baseline | decomposed: gap closed |"
    )
    assert line == "| tadtr | 2 | 60.0 ± 14.1 | 50.0 ± 14.1 | 60.0 ± 0.0 | 90.0 ± 0.0 | +10.0 [+2.0, +18.0] | 25 % |"


def test_no_share_of_a_gap_that_is_not_there() -> None:
    below = ROW._replace(averages=ROW.averages | {"two_stream": [0.3, 0.3]})
    assert below.gap_closed("decomposed") is None
    assert ROW._replace(averages={"decomposed": [0.5]}).gap_closed("decomposed") is None


def test_a_combination_that_lacks_a_detector_has_an_empty_cell() -> None:
    lone = GridRow(("afsd",), [3], {"baseline": [0.5]}, {})
    assert markdown_table(["head"], [ROW, lone]).splitlines()[3] == "| afsd | 1 |  | 50.0 |  |  |  |  |"


def test_csv_has_a_line_for_each_seed() -> None:
    lines = csv_table(["head"], [ROW]).splitlines()
    assert lines[0] == "head,detector,seed,average_mAP" and len(lines) == 1 + 4 * 2
    assert "tadtr,baseline,4,0.600000" in lines


def test_gap_closed_is_of_the_means() -> None:
    assert ROW.gap_closed("decomposed") == pytest.approx(0.25)
