"""What a grid's cells came to, row by row."""

from tadscale.runtime.grid.results import grid_row
from tadscale.runtime.grid.spec import load_grid


def test_a_row_is_of_the_detectors_that_all_its_seeds_have(grid_file):
    _, cells = load_grid(grid_file())
    scores = {"wide.laf.seed0": {"teacher": 0.5, "teacher_last": 0.4}, "wide.laf.seed1": {"teacher": 0.7}}
    row = [cell for cell in cells if cell.name in scores]
    for cells in (row, row[::-1]):
        assert grid_row(scores, cells).averages == {"teacher": [scores[cell.name]["teacher"] for cell in cells]}
