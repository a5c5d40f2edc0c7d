"""Which epoch's weights of each stage are scored on test and published: the last, or the best on validation. Never on test.

The field's habit is to take the epoch that is best on the test subset, which flatters the figure. Here the choice is made
before a test video is looked at, by the videos of the validation subset alone.
"""

import json
from collections.abc import Mapping

from tadscale.data.manifest import Manifest
from tadscale.data.quarantine import check_within_budget
from tadscale.data.storage import join, write_bytes
from tadscale.errors import UserError
from tadscale.metrics.average_precision import MeanAveragePrecision, evaluate_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.network import read_spec
from tadscale.report.inputs import EVALUATION
from tadscale.report.summary import LAST
from tadscale.runtime.evaluation.detect_videos import detect_videos
from tadscale.runtime.evaluation.score_models import TestVideos
from tadscale.runtime.evaluation.video_pass import Candidate
from tadscale.runtime.stage.choice import Choice, last_weights, weights_of_epoch
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.tracking.run import Run

SELECTION = "selection.json"


def choose_epochs(job: JobConfig, manifest: Manifest, stages: Mapping[str, StageResult], run: Run) -> dict[str, Choice]:
    """The weights of each stage that count.

    Args:
        job: `evaluate.select` says how they are chosen.
        manifest: the data; its validation subset alone is read.
        stages: the finished ones, by mode.
        run: takes the scores on validation, by epoch.

    Raises:
        UserError: an epoch is to be chosen, and a stage kept the weights of none, or they were damaged since.
        QuarantineExceeded: more validation videos are bad than may be.
        StorageError: the storage cannot be reached.
    """
    choices = {mode: last_weights(result) for mode, result in stages.items()}
    chosen = [mode for mode in stages if mode != "pretrain"]
    if job.evaluate.select == "last" or not chosen:
        return choices
    videos = TestVideos.of(manifest, job.data.validation_subset)
    for mode, kept in {mode: _kept(stages[mode]) for mode in chosen}.items():
        scores = _on_validation(job, videos, kept)
        for epoch, score in scores.items():
            run.log_metrics({f"{mode}/validation_average_mAP": score}, step=epoch)
        choices[mode] = kept[best_epoch(scores)]._replace(validation=scores)
    return choices


def best_epoch(scores: Mapping[int, float]) -> int:
    """The epoch with the highest score; of equal ones the latest."""
    return max(scores, key=lambda epoch: (scores[epoch], epoch))


def record_choices(
    job: JobConfig, choices: Mapping[str, Choice], scores: Mapping[str, MeanAveragePrecision], run: Run
) -> None:
    """Write down what was chosen, on what grounds, and what chosen and last weights came to on test."""
    document = {
        mode: {
            "chosen_on": job.data.validation_subset,
            "validation_average_mAP": choice.validation,
            "chosen_epoch": choice.epoch,
            "last_epoch": choice.last.epochs,
            "test_average_mAP": {"chosen": scores[mode].average, "last": scores[f"{mode}{LAST}"].average},
        }
        for mode, choice in choices.items()
        if choice.validation is not None
    }
    if document:
        write_bytes(join(job.run_url, EVALUATION, SELECTION), json.dumps(document, indent=1).encode())
        run.log_dict(document, SELECTION)


def _kept(result: StageResult) -> dict[int, Choice]:
    """What a stage kept, by epoch, each verified to be what it left."""
    if not result.kept_epochs and result.epochs != 1:
        raise UserError(
            f"{result.url} kept the weights of no epoch but its last, for it was trained with evaluate.select=last: leave "
            "it at that, or remove that folder to train this stage anew"
        )
    kept = {epoch: weights_of_epoch(result, epoch) for epoch in [*sorted(result.kept_epochs), result.epochs]}
    for choice in kept.values():
        read_spec(choice.url, choice.network_sha256)
    return kept


def _on_validation(job: JobConfig, videos: TestVideos, kept: Mapping[int, Choice]) -> dict[int, float]:
    """Average mAP of each epoch of a stage, all seen in one pass over the videos."""
    here = with_absolute_paths(job)
    detected = detect_videos(
        [Candidate(name=str(epoch), weights_urls=(choice.url,)) for epoch, choice in kept.items()],
        data_url=here.data.url,
        subset=job.data.validation_subset,
        cluster=job.cluster,
        inference=job.evaluate.inference,
        motion=here.motion,
    )
    check_within_budget(detected.failures, job.data.quarantine_budget, len(videos.segments))
    truth = GroundTruth.from_segments(videos.segments)
    return {
        int(epoch): evaluate_detections(
            DetectionTable.from_detections(found), truth, job.evaluate.tiou, ties="stable"
        ).average
        for epoch, found in detected.detections.items()
    }
