"""Package a trained network with its card, and register it."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.network import Mode, NetworkSpec, read_spec, read_weights
from tadscale.report.model_card import model_card
from tadscale.report.summary import LAST
from tadscale.runtime.evaluation.score_models import score_facts
from tadscale.runtime.models.describe_model import describe_model
from tadscale.runtime.models.packaging import package_model
from tadscale.runtime.models.raw_video import RawVideo, raw_video
from tadscale.runtime.models.registry import ModelVersion, Registry
from tadscale.runtime.stage.choice import Choice
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.tracking.run import Run

log = logging.getLogger(__name__)


def publish(
    job: JobConfig, choice: Choice, scores: Mapping[str, MeanAveragePrecision], run: Run, *, mode: Mode, name: str
) -> ModelVersion:
    """Register what a stage trained, with the weights that count: the champion if the name is new, else the challenger.

    A detector on features comes with what made these of videos, where that is known and there. Else it says that it runs on
    no raw video, and is registered all the same: the training is paid for.

    Raises:
        UserError: description or weights are not those that were trained, or are no finite numbers.
        StorageError: the storage cannot be reached.
    """
    network = read_spec(choice.url, choice.network_sha256)
    weights = read_weights(choice.url, network)
    sees = RawVideo() if network.reads_motion else raw_video(job)
    if sees.lacks:
        log.warning("%s will not run on raw video: %s", name, sees.lacks)
    network = network.model_copy(update={"inference": job.evaluate.inference, "extractor": sees.extractor})
    card = model_card(describe_model(job, choice, network, scores, name))
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "model")
        package_model(package, network, weights, card=card, extractor=sees.weights)
        return Registry(run.tracking_uri, run.patience_s).register(
            run,
            name,
            package,
            metrics=_metrics(scores, mode),
            tags=_tags(job, choice.last, network),
            card=card,
        )


def _metrics(scores: Mapping[str, MeanAveragePrecision], mode: Mode) -> dict[str, float]:
    """On test; where an epoch was chosen, the last weights' average beside that of the ones that are published."""
    last = {"last_average_mAP": scores[f"{mode}{LAST}"].average} if f"{mode}{LAST}" in scores else {}
    return score_facts(scores[mode]) | last if mode in scores else {}


def _tags(job: JobConfig, stage: StageResult, network: NetworkSpec) -> dict[str, str]:
    return {
        "job": job.name,
        "mode": network.mode,
        "seed": str(job.seed),
        "manifest_digest": stage.manifest_digest,
        "plan_digest": stage.plan_digest,
        "weights_sha256": network.weights_sha256,
    }
