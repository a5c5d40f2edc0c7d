"""What a grid's cells came to: kept as each ends, for a grid that is stopped goes on; compared at the end."""

import json
from collections.abc import Mapping, Sequence

from tadscale.data.annotations import parse_detections
from tadscale.data.manifest import read_manifest
from tadscale.data.storage import StorageError, join, read_bytes, write_bytes
from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.metrics.bootstrap import PairedBootstrap, bootstrap_pairs
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.report.grid import GridRow
from tadscale.runtime.evaluation.score_models import TestVideos
from tadscale.runtime.grid.spec import Cell, StudentMode
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.tracking.track import settings_digest

BASELINE = "baseline"


def keep(
    folder: str, cell: Cell, mode: StudentMode, job: JobConfig, scores: Mapping[str, MeanAveragePrecision]
) -> None:
    """Write down what a job of a cell came to."""
    kept = {"job": job_digest(job), "average_mAP": {name: score.average for name, score in scores.items()}}
    write_bytes(_url(folder, cell, mode), json.dumps(kept, indent=1).encode())


def kept_scores(folder: str, cell: Cell, mode: StudentMode, job: JobConfig) -> dict[str, float] | None:
    """Average mAP by detector as it was kept, in [0, 1]; None if this job has not run to its end yet."""
    try:
        kept = json.loads(read_bytes(_url(folder, cell, mode)))
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    return kept["average_mAP"] if kept["job"] == job_digest(job) else None


def job_digest(job: JobConfig) -> str:
    """What a job is by its settings; what it may use of the machines does not count."""
    return settings_digest(job.model_dump(mode="json", exclude={"cluster", "tracking"}))


def grid_row(scores: Mapping[str, Mapping[str, float]], cells: Sequence[Cell]) -> GridRow:
    """What one combination of choices came to: every detector's scores over the seeds, and students against the baseline.

    Args:
        scores: average mAP by detector, in [0, 1], of each cell by its name.
        cells: the combination's, one a seed.
    """
    names = dict.fromkeys(name for cell in cells for name in scores[cell.name])
    averages = {name: [scores[cell.name][name] for cell in cells] for name in names}
    against: dict[str, PairedBootstrap] = {}
    if BASELINE in averages:
        against = {mode: _against_baseline(cells, mode) for mode in cells[0].jobs}
    return GridRow(cells[0].choices, [cell.seed for cell in cells], averages, against)


def _against_baseline(cells: Sequence[Cell], mode: StudentMode) -> PairedBootstrap:
    """The student against the baseline, over the test videos and all seeds."""
    jobs = [cell.jobs[mode] for cell in cells]
    data = jobs[0].data
    videos = TestVideos.of(read_manifest(data.url), data.test_subset)
    pairs = [(_detections(job, mode), _detections(job, BASELINE)) for job in jobs]
    return bootstrap_pairs(pairs, GroundTruth.from_segments(videos.segments), jobs[0].evaluate.tiou)


def _detections(job: JobConfig, name: str) -> DetectionTable:
    url = join(job.run_url, "evaluation", f"{name}.json")
    return parse_detections(json.loads(read_bytes(url)), url)


def _url(folder: str, cell: Cell, mode: StudentMode) -> str:
    return join(folder, "results", f"{cell.name}.{mode}.json")
