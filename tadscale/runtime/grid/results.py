"""What a grid's cells came to: kept as each ends, for a grid that is stopped goes on, and compared as far as it is known."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tadscale.data.annotations import parse_detections
from tadscale.data.manifest import read_manifest
from tadscale.data.storage import join, read_bytes, read_text, remove, write_bytes
from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.metrics.bootstrap import PairedBootstrap, bootstrap_pairs
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.report.grid import GridRow
from tadscale.runtime.evaluation.score_models import TestVideos
from tadscale.runtime.grid.contents import Contents
from tadscale.runtime.grid.spec import Cell, StudentMode
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.tracking.track import settings_digest

BASELINE = "baseline"


class GridResults:
    """A grid's rows, as far as its cells have been run.

    Args:
        folder: of the grid.
        cells: all of them.

    Raises:
        StorageError: the storage cannot be reached.
    """

    def __init__(self, folder: str, cells: Sequence[Cell]) -> None:
        self._folder = folder
        self._cells = cells
        contents = Contents(folder)
        known = ((cell.name, kept_cell(folder, cell, contents)) for cell in cells)
        self._scores = {name: scores for name, scores in known if scores is not None}
        self._rows: dict[tuple[str, ...], GridRow] = {}
        for choices in dict.fromkeys(cell.choices for cell in cells if self.knows(cell)):
            self._compare(choices)

    @property
    def subset(self) -> str:
        """Of which videos the scores are."""
        return next(iter(self._cells[0].jobs.values())).data.test_subset

    @property
    def rows(self) -> list[GridRow]:
        """What is known of every combination, in the grid's order."""
        places = dict.fromkeys(cell.choices for cell in self._cells)
        return [self._rows[choices] for choices in places if choices in self._rows]

    def knows(self, cell: Cell) -> bool:
        """Whether all of a cell's jobs have been run."""
        return cell.name in self._scores

    def add(self, cell: Cell) -> None:
        """Take in what was kept of a cell, all of whose jobs have been run."""
        scores = kept_cell(self._folder, cell, Contents(self._folder))
        assert scores is not None
        self._scores[cell.name] = scores
        self._compare(cell.choices)

    def _compare(self, choices: tuple[str, ...]) -> None:
        known = [cell for cell in self._cells if cell.choices == choices and self.knows(cell)]
        self._rows[choices] = grid_row(self._scores, known)


def keep(folder: str, cell: Cell, mode: StudentMode, scores: Mapping[str, MeanAveragePrecision]) -> None:
    """Write down what a job of a cell came to, and of which data and networks."""
    averages = {name: score.average for name, score in scores.items()}
    job = cell.jobs[mode]
    kept = {"job": job_digest(job), "contents": Contents(folder).of(job), "average_mAP": averages}
    write_bytes(_url(folder, cell, mode), json.dumps(kept, indent=1).encode())


def kept_scores(folder: str, cell: Cell, mode: StudentMode, contents: Contents) -> dict[str, float] | None:
    """Average mAP by detector as it was kept, in [0, 1]; None if this job has not run to its end yet, with the data and
    networks that there are now. Earlier versions did not write those down, and counted the teacher's cache among the
    settings: what they kept counts."""
    text = read_text(_url(folder, cell, mode))
    kept: dict[str, Any] = json.loads(text) if text else {"job": ""}
    job = cell.jobs[mode]
    known = kept["job"] in (job_digest(job), _with_cache_digest(job))
    if not known or ("contents" in kept and kept["contents"] != contents.of(job)):
        return None
    scores: dict[str, float] = kept["average_mAP"]
    return scores


def kept_cell(folder: str, cell: Cell, contents: Contents) -> dict[str, float] | None:
    """The same of all jobs of a cell together; None until the last has run."""
    scores: dict[str, float] = {}
    for mode in cell.jobs:
        known = kept_scores(folder, cell, mode, contents)
        if known is None:
            return None
        scores |= known
    return scores


def forget_others(folder: str, cell: Cell) -> None:
    """Take away what was kept of a cell's jobs with other settings or data: they share a folder of detections with those
    that run now, and a table would compare what is in it with their scores. Raises `StorageError`."""
    contents = Contents(folder)
    for mode in cell.jobs:
        if kept_scores(folder, cell, mode, contents) is None and read_text(_url(folder, cell, mode)):
            remove(_url(folder, cell, mode))


def job_digest(job: JobConfig) -> str:
    """What a job is by its settings; what it may use of machines does not count, nor where a teacher's words are kept."""
    return _with_cache_digest(job.model_copy(update={"teacher": job.teacher.model_copy(update={"cache": None})}))


def _with_cache_digest(job: JobConfig) -> str:
    return settings_digest(job.model_dump(mode="json", exclude={"cluster", "tracking"}))


def grid_row(scores: Mapping[str, Mapping[str, float]], cells: Sequence[Cell]) -> GridRow:
    """What one combination of choices came to: every detector's scores over the seeds, and students against the baseline.

    A detector that only some of the cells have is left out, such as a teacher's last weights: a cell that shares the teacher
    of another has none of its own to choose an epoch of.

    Args:
        scores: average mAP by detector, in [0, 1], of each cell by its name.
        cells: the combination's, one a seed.
    """
    names = [name for name in scores[cells[0].name] if all(name in scores[cell.name] for cell in cells)]
    averages = {name: [scores[cell.name][name] for cell in cells] for name in names}
    against = _against_baseline(cells) if BASELINE in averages else {}
    return GridRow(cells[0].choices, [cell.seed for cell in cells], averages, against)


def _against_baseline(cells: Sequence[Cell]) -> dict[str, PairedBootstrap]:
    """Students against the baseline, over the test videos and all seeds; none over a single video, which cannot be drawn."""
    first = next(iter(cells[0].jobs.values()))
    truth = GroundTruth.from_segments(TestVideos.of(read_manifest(first.data.url), first.data.test_subset).segments)
    compared: dict[str, PairedBootstrap] = {}
    for mode in cells[0].jobs if len(truth.videos) > 1 else ():
        jobs = [cell.jobs[mode] for cell in cells]
        pairs = [(_detections(job, mode), _detections(job, BASELINE)) for job in jobs]
        compared[mode] = bootstrap_pairs(pairs, truth, first.evaluate.tiou)
    return compared


def _detections(job: JobConfig, name: str) -> DetectionTable:
    url = join(job.run_url, "evaluation", f"{name}.json")
    return parse_detections(json.loads(read_bytes(url)), url)


def _url(folder: str, cell: Cell, mode: StudentMode) -> str:
    return join(folder, "results", f"{cell.name}.{mode}.json")
