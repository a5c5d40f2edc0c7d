"""The data profile of a registered version: written with every version, read when its successor is thought of."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tadscale.data.annotations import parse_detections
from tadscale.data.manifest import read_manifest
from tadscale.data.source import open_sources
from tadscale.data.storage import join, read_text, write_bytes
from tadscale.report.inputs import EVALUATION
from tadscale.retrain.appearance import look_at_video
from tadscale.retrain.profile import DataProfile, Look, confidences, profile_of
from tadscale.runtime.models.registry import ModelVersion, Registry
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.tracking.run import Run

PROFILE_NAME = "data_profile.json"


def write_profile(job: JobConfig, run: Run, name: str) -> DataProfile:
    """Describe what a job trained on, beside its stages and in its record.

    Args:
        job: the run, evaluated.
        run: where it is recorded.
        name: of the network that is registered, as evaluation calls it.

    Raises:
        StorageError: the storage cannot be reached.
    """
    training = open_sources(job.data.training_sources)
    scored = read_manifest(job.data.url).subset(job.data.test_subset) if job.kind != "pretrain" else None
    rows = list(scored.facts()) if scored is not None else []
    confidence: list[float] = []
    where = join(job.run_url, EVALUATION, f"{name}.json")
    if found := read_text(where):
        confidence = confidences(parse_detections(json.loads(found), where), [row.key for row in rows])
    profile = profile_of(training, rows, look_of(job), confidence)
    document = profile.model_dump_json().encode()
    write_bytes(join(job.run_url, PROFILE_NAME), document)
    run.log_bytes(document, PROFILE_NAME)
    return profile


def look_of(job: JobConfig) -> Look:
    """How its videos are looked at: features show nothing."""
    return look_at_video if job.data.window.features is None else lambda row: None


def read_profile(registry: Registry, version: ModelVersion) -> DataProfile | None:
    """What a version was trained on; None for one of before profiles were written, and where its run is gone."""
    if registry.run_of(version) is None:
        return None
    client = Run(registry.tracking_uri, version.run_id, registry.patience_s).client
    if PROFILE_NAME not in {entry.path for entry in client.list_artifacts(version.run_id)}:
        return None
    with TemporaryDirectory() as folder:
        path = client.download_artifacts(version.run_id, PROFILE_NAME, folder)
        return DataProfile.model_validate_json(Path(path).read_bytes())


def profile_of_run(run_url: str) -> DataProfile | None:
    """What the networks in a run's folder were trained on; None where nothing says it."""
    text = read_text(join(run_url, PROFILE_NAME))
    return DataProfile.model_validate_json(text) if text else None
