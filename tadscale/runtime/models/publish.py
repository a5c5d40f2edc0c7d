"""Package a trained network with its card, and register it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from tadscale.data.manifest import read_manifest
from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.network import Mode, NetworkSpec, read_spec, read_weights
from tadscale.report.model_card import Evaluation, ModelCard, model_card
from tadscale.report.summary import LAST
from tadscale.runtime.evaluation.score_models import score_facts
from tadscale.runtime.models.packaging import package_model
from tadscale.runtime.models.registry import ModelVersion, Registry
from tadscale.runtime.stage.choice import Choice, choice_line
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import StageResult
from tadscale.runtime.tracking.provenance import code_version, hardware
from tadscale.runtime.tracking.redact import redact
from tadscale.runtime.tracking.run import Run

SUMMARY = {
    "student": "Finds actions in untrimmed video from RGB frames alone; it was taught by a detector that sees motion.",
    "pretrain": "The start of an RGB backbone: it learned, without labels, to predict its clip's own motion and colour.",
    "teacher": "Finds actions in motion computed from untrimmed video; it is there to teach detectors that see RGB alone.",
}


def publish(
    job: JobConfig, choice: Choice, scores: Mapping[str, MeanAveragePrecision], run: Run, *, mode: Mode, name: str
) -> ModelVersion:
    """Register what a stage trained, with the weights that count: the champion if the name is new, else the challenger.

    Raises:
        UserError: description or weights are not those that were trained, or are no finite numbers.
        StorageError: the storage cannot be reached.
    """
    network = read_spec(choice.url, choice.network_sha256)
    weights = read_weights(choice.url, network)
    card = model_card(_card(job, choice, network, scores, name))
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "model")
        package_model(package, network.model_copy(update={"inference": job.evaluate.inference}), weights, card=card)
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


def _card(
    job: JobConfig, choice: Choice, network: NetworkSpec, scores: Mapping[str, MeanAveragePrecision], name: str
) -> ModelCard:
    stage = choice.last
    ground_truth = f"{job.data.url}, subset {job.data.test_subset}"
    videos = len(read_manifest(job.data.url).subset(job.data.test_subset))
    first = (network.mode, f"{network.mode}{LAST}")
    ordered = sorted(scores, key=lambda name: first.index(name) if name in first else len(first))
    selection = {"weights": choice_line(network.mode, choice)} if choice.validation is not None else {}
    rows = network.window.features
    outside = [] if rows is None else [f"It reads features ({rows}) and computes none: it serves no raw video."]
    return ModelCard(
        name=name,
        summary=SUMMARY.get(network.mode, SUMMARY["student"]),
        job=yaml.safe_dump(redact(job.model_dump(mode="json")), sort_keys=False),
        facts={
            "code version": code_version(),
            "hardware": hardware(),
            "optimiser steps": str(stage.steps),
            "seed": str(job.seed),
            **selection,
        },
        data_digests={
            "manifest": stage.manifest_digest,
            "plan": stage.plan_digest,
            "weights": network.weights_sha256,
        },
        motion=network.motion_fingerprint or "none",
        classes=network.classes,
        evaluations=[
            Evaluation(model=model, ground_truth=ground_truth, videos=videos, result=scores[model]) for model in ordered
        ],
        intended_use=["Detection of the classes below in videos like those it was trained on."],
        limits=[
            *outside,
            "Scores are not calibrated probabilities.",
            f"Of one video the {job.evaluate.inference.nms.top_k} strongest detections are kept (the parameter top_k).",
            f"Actions much longer than a window ({network.window.frames / network.window.fps:g} s) are not found whole.",
        ],
    )
