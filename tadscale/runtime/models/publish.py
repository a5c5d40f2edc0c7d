"""Package the student with its card, and register it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import yaml

from tadscale.data.manifest import read_manifest
from tadscale.data.storage import join, read_bytes
from tadscale.engine.steps import Mode
from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.network import WEIGHTS_NAME, NetworkSpec, read_spec
from tadscale.report.model_card import Evaluation, ModelCard, model_card
from tadscale.runtime.evaluation.score_models import score_facts
from tadscale.runtime.models.packaging import package_model
from tadscale.runtime.models.registry import ModelVersion, Registry
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import StageResult
from tadscale.runtime.tracking.provenance import code_version, hardware
from tadscale.runtime.tracking.redact import redact
from tadscale.runtime.tracking.run import Run
from tadscale.serving.spec import DetectorSpec

SUMMARY = "Finds actions in untrimmed video from RGB frames alone; it was taught by a detector that sees motion."


def publish(job: JobConfig, student: StageResult, scores: Mapping[str, MeanAveragePrecision], run: Run) -> ModelVersion:
    """Register the student: the champion if the name is new, else the challenger."""
    network = read_spec(student.weights_url)
    card = model_card(_card(job, student, network, scores))
    weights = safetensors.torch.load(read_bytes(join(student.weights_url, WEIGHTS_NAME)))
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "model")
        package_model(package, _spec(job, job.student.mode, network), weights, card=card)
        return Registry(run.tracking_uri).register(
            run,
            job.tracking.registered_model,
            package,
            metrics=score_facts(scores[job.student.mode]),
            tags=_tags(job, student, network),
            card=card,
        )


def _spec(job: JobConfig, mode: Mode, network: NetworkSpec) -> DetectorSpec:
    assert mode != "teacher"
    return DetectorSpec(
        mode=mode,
        network=network.model,
        classes=network.classes,
        window=network.window,
        inference=job.evaluate.inference,
        weights_sha256=network.weights_sha256,
        motion_fingerprint=network.motion_fingerprint or None,
        manifest_digest=network.manifest_digest,
        plan_digest=network.plan_digest,
        code_version=code_version(),
    )


def _tags(job: JobConfig, student: StageResult, network: NetworkSpec) -> dict[str, str]:
    return {
        "job": job.name,
        "mode": job.student.mode,
        "seed": str(job.seed),
        "manifest_digest": student.manifest_digest,
        "plan_digest": student.plan_digest,
        "weights_sha256": network.weights_sha256,
    }


def _card(
    job: JobConfig, student: StageResult, network: NetworkSpec, scores: Mapping[str, MeanAveragePrecision]
) -> ModelCard:
    ground_truth = f"{job.data.url}, subset {job.data.test_subset}"
    videos = len(read_manifest(job.data.url).subset(job.data.test_subset))
    ordered = [job.student.mode, *(name for name in scores if name != job.student.mode)]
    return ModelCard(
        name=job.tracking.registered_model,
        summary=SUMMARY,
        job=yaml.safe_dump(redact(job.model_dump(mode="json")), sort_keys=False),
        facts={
            "code version": code_version(),
            "hardware": hardware(),
            "optimiser steps": str(student.steps),
            "seed": str(job.seed),
        },
        data_digests={
            "manifest": student.manifest_digest,
            "plan": student.plan_digest,
            "weights": network.weights_sha256,
        },
        motion=network.motion_fingerprint or "none",
        classes=network.classes,
        evaluations=[
            Evaluation(model=name, ground_truth=ground_truth, videos=videos, result=scores[name]) for name in ordered
        ],
        intended_use=["Detection of the classes below in videos like those it was trained on."],
        limits=[
            "Scores are not calibrated probabilities.",
            f"Actions much longer than a window ({network.window.frames / network.window.fps:g} s) are not found whole.",
        ],
    )
