"""What a model card says of a network that a job has trained."""

from collections.abc import Mapping

import numpy as np
import yaml

from tadscale.data.extractor_spec import ExtractorSpec
from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.windows import WindowConfig
from tadscale.metrics.average_precision import MeanAveragePrecision
from tadscale.network import InferenceConfig, NetworkSpec
from tadscale.report.model_card import Evaluation, ModelCard
from tadscale.report.summary import LAST
from tadscale.runtime.stage.choice import Choice, choice_line
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.tracking.provenance import code_version, hardware
from tadscale.runtime.tracking.redact import redact, redact_text

SUMMARY = {
    "student": "Finds actions in untrimmed video from RGB frames alone; it was taught by a detector that sees motion.",
    "pretrain": "The start of an RGB backbone: it learned, without labels, to predict its clip's own motion and colour.",
    "teacher": "Finds actions in motion computed from untrimmed video; it is there to teach detectors that see RGB alone.",
}
RESIZED = {"stretch": "resized", "crop": "scaled until it covers them, the middle cut out"}
LICENCE = (
    "The code in the package is under Apache-2.0. The weights were made from the videos and annotations named above: what "
    "their licences say of models trained on them holds, and is not known to the job."
)


def describe_model(
    job: JobConfig, choice: Choice, network: NetworkSpec, scores: Mapping[str, MeanAveragePrecision], name: str
) -> ModelCard:
    """The card of what a stage trained.

    Raises:
        UserError: a manifest of the job is not there any more.
        StorageError: the storage cannot be reached.
    """
    ground_truth = redact_text(f"{job.data.url}, subset {job.data.test_subset}")
    test = read_manifest(job.data.url).subset(job.data.test_subset)
    stage = choice.last
    first = (network.mode, f"{network.mode}{LAST}")
    ordered = sorted(scores, key=lambda name: first.index(name) if name in first else len(first))
    selection = {"weights": choice_line(network.mode, choice)} if choice.validation is not None else {}
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
        data=_data(job) | {f"test: {ground_truth}": _amount(test)},
        windows=_windows(network.window) | _extractor(network.extractor),
        motion=network.motion_fingerprint or "none",
        classes=network.classes,
        evaluations=[
            Evaluation(model=model, ground_truth=ground_truth, videos=len(test), result=scores[model])
            for model in ordered
        ],
        protocol=_protocol(job.evaluate.inference),
        licence=LICENCE,
        loading=_loading(name, network),
        intended_use=[
            "Detection of the classes below in videos like those it was trained on: such scenes, cameras, rates.",
            "Not for decisions about people without a person who looks at the video.",
        ],
        limits=_limits(network, job.evaluate.inference),
    )


def _data(job: JobConfig) -> dict[str, str]:
    return {
        redact_text(f"training: {source.url}, subset {source.subset}"): _amount(
            read_manifest(source.url).subset(source.subset)
        )
        + ("" if source.labelled else ", without their labels")
        for source in job.data.training_sources
    }


def _amount(videos: Manifest) -> str:
    seconds = float(np.sum(videos.duration_s))
    segments = sum(len(row.labels) for row in videos.facts())
    return f"{len(videos)} videos, {seconds / 3600:.2f} hours, {segments} segments"


def _windows(window: WindowConfig) -> dict[str, str]:
    rows = window.features
    resized = RESIZED[window.resize]
    seen = f"{window.height}x{window.width} pixels, RGB, {resized}" if rows is None else f"{rows.channels} features"
    return {
        "length": f"{window.frames} frames, {window.frames / window.fps:g} s",
        "one every": f"{window.stride_frames} frames, {window.stride_frames / window.fps:g} s; the last ends with the video",
        "sampled": f"{window.fps:g} frames a second, by time of display",
        "a frame": seen,
    }


def _extractor(made_by: ExtractorSpec | None) -> dict[str, str]:
    """What makes features of videos, which the package holds."""
    if made_by is None:
        return {}
    made_of = (
        f"{made_by.height}x{made_by.width} pixels, RGB, {RESIZED[made_by.resize]}, {made_by.rows.video_fps:g} a second"
    )
    return {
        "features made by": f"{made_by.backbone['name']}, weights {made_by.sha256}, in chunks of {made_by.frames} frames",
        "features made of": made_of,
    }


def _protocol(inference: InferenceConfig) -> str:
    nms = inference.nms
    how = {"soft": f"Soft-NMS (sigma {nms.sigma:g})", "hard": f"NMS (tIoU {nms.tiou:g})", "none": "no suppression"}
    return (
        f"Of each window the {inference.window_top_k} best detections with a score of at least {nms.min_score:g}, merged by "
        f"{how[nms.method]} {'over all classes' if nms.class_agnostic else 'class by class'}, the {nms.top_k} best of each "
        "video; average precision as ActivityNet computes it, its mean over classes (mAP) at each tIoU, and the average "
        "over these. One set of weights, averaged over training steps; no threshold was tuned on the test videos."
    )


def _loading(name: str, network: NetworkSpec) -> str:
    uri = f"models:/{name}@champion"
    if network.mode == "teacher":
        return f'# No consumer loads a teacher. A job takes it:  --set teacher.url="{uri}"'
    if network.mode == "pretrain":
        return f'# No consumer loads a start. A job takes it:  --set model.backbone.weights="{uri}"'
    if network.window.features is not None and network.extractor is None:
        return "# It reads features, and detects in no video by itself: see Limits."
    return f"""import mlflow

model = mlflow.pyfunc.load_model("{uri}")
model.predict(["clip.mp4"])  # paths, URLs or bytes, to a table of video, label, start_s, end_s, score"""


def _limits(network: NetworkSpec, inference: InferenceConfig) -> list[str]:
    window = network.window
    computes_none = window.features is not None and network.extractor is None
    outside = (
        [f"It reads features ({window.features}) and computes none: it serves no raw video."] if computes_none else []
    )
    return [
        *outside,
        "Scores are not calibrated probabilities.",
        f"Of one video the {inference.nms.top_k} strongest detections are kept (the parameter top_k).",
        f"Actions much longer than a window ({window.frames / window.fps:g} s) are not found whole.",
        "Videos of other scenes, cameras or classes were not tried.",
    ]
