"""What a grid's cells came to, row by row."""

import json

from tadscale.runtime.grid.contents import Contents
from tadscale.runtime.grid.results import grid_row, job_digest, keep, kept_scores
from tadscale.runtime.grid.spec import load_grid
from tadscale.runtime.tracking.track import settings_digest
from tests.runtime.grid.conftest import GRID


def test_a_row_is_of_the_detectors_that_all_its_seeds_have(grid_file):
    _, cells = load_grid(grid_file())
    scores = {"wide.laf.seed0": {"teacher": 0.5, "teacher_last": 0.4}, "wide.laf.seed1": {"teacher": 0.7}}
    row = [cell for cell in cells if cell.name in scores]
    for cells in (row, row[::-1]):
        assert grid_row(scores, cells).averages == {"teacher": [scores[cell.name]["teacher"] for cell in cells]}


def test_where_a_teacher_s_words_are_kept_does_not_count(grid_file, trained, tmp_path):
    folder, cached = str(tmp_path / "kept"), {"teacher": {"cache": {"url": "said", "bytes": 1 << 20}}}
    [cell, *_], [with_cache, *_] = (
        load_grid(grid_file())[1],
        load_grid(grid_file(settings=GRID["settings"] | cached))[1],
    )
    job = with_cache.jobs["decomposed"]
    assert job.teacher.cache and job_digest(job) == job_digest(cell.jobs["decomposed"])
    keep(folder, cell, "decomposed", {})
    assert kept_scores(folder, with_cache, "decomposed", Contents(folder)) == {}


def test_what_was_kept_while_it_counted_stands(grid_file, trained, tmp_path):
    cached = {"teacher": {"cache": {"url": "said", "bytes": 1 << 20}}}
    _, [cell, *_] = load_grid(grid_file(settings=GRID["settings"] | cached))
    keep(str(tmp_path), cell, "decomposed", {})
    [kept] = (tmp_path / "results").iterdir()
    settings = cell.jobs["decomposed"].model_dump(mode="json", exclude={"cluster", "tracking"})
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"job": settings_digest(settings)}))
    assert kept_scores(str(tmp_path), cell, "decomposed", Contents(str(tmp_path))) == {}
