"""The gate with nothing replaced: two untrained detectors, detected with over Ray Data."""

from pathlib import Path

import pytest

from tadscale.data.manifest import read_manifest
from tadscale.gate.config import GateConfig
from tadscale.metrics import DetectionTable, GroundTruth, evaluate_detections
from tadscale.network import load_network, read_spec
from tadscale.runtime.models.packaging import package_model
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tests.runtime.conftest import ONE_WORKER, save_untrained
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401


@pytest.mark.usefixtures("cluster")
def test_the_figures_are_those_of_the_evaluation(make_stage, sprites, storage: Path, tmp_path: Path) -> None:  # noqa: F811
    from tadscale.runtime.evaluation.detect_videos import detect_videos
    from tadscale.runtime.evaluation.score_models import TestVideos
    from tadscale.runtime.evaluation.video_pass import Candidate
    from tadscale.runtime.jobs.gate.run_gate import run_gate

    stage = make_stage(storage / "x", mode="decomposed")
    urls = [save_untrained(stage, tmp_path / str(seed), seed) for seed in range(2)]
    with track_job(TrackingConfig(), job="x", storage=str(storage), settings={}) as run:
        registry = Registry(run.tracking_uri)
        for seed, url in enumerate(urls):
            package_model(tmp_path / f"package-{seed}", read_spec(url), load_network(url)[0].state_dict())
            registry.register(run, "tiny", tmp_path / f"package-{seed}", metrics={}, tags={})
    outcome = run_gate(stage.job, GateConfig(policy="always", draws=100), registry, "tiny")

    candidates = [Candidate(name=url, weights_urls=(url,)) for url in urls]
    where = {"data_url": sprites, "subset": "test", "cluster": ONE_WORKER}
    found = detect_videos(candidates, **where, inference=read_spec(urls[0]).inference).detections
    truth = GroundTruth.from_segments(TestVideos.of(read_manifest(sprites), "test").segments)
    champion, challenger = (
        evaluate_detections(
            DetectionTable.from_detections(found[url]), truth, stage.job.evaluate.tiou, "stable"
        ).average
        for url in urls
    )
    assert outcome.verdict is not None and outcome.challenger.aliases == ("champion",)
    overall = outcome.verdict.evidence.overall
    assert (overall.challenger, overall.champion) == pytest.approx((challenger, champion)) and challenger != champion
