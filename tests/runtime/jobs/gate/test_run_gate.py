"""The gate on a real registry with tiny detectors. What they find is drawn: how evaluation detects is tested elsewhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tadscale.cli import main
from tadscale.data.manifest import read_manifest
from tadscale.data.quarantine import QuarantineEntry, QuarantineExceeded
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.data.windows import WindowConfig
from tadscale.errors import UserError
from tadscale.gate.config import GateConfig
from tadscale.network import load_network
from tadscale.runtime.evaluation.detect_videos import VideosDetected
from tadscale.runtime.evaluation.video_pass import Candidate
from tadscale.runtime.jobs.gate import trial
from tadscale.runtime.jobs.gate.run_gate import run_gate
from tadscale.runtime.jobs.job_file import load_job
from tadscale.runtime.models.champion_alias import ChampionChanged
from tadscale.runtime.models.packaging import package_model
from tadscale.runtime.models.registry import Registry
from tadscale.runtime.tracking.track import TrackingConfig, track_job
from tadscale.segments import Detection
from tests.runtime.tracking.mlflow_store import empty_database, storage  # noqa: F401
from tests.serving.tiny import SPEC

NAME = "tiny"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight to test on, which is enough for a clear difference."""
    folder = tmp_path_factory.mktemp("sprites")
    write_shards(draw_videos(SpritesConfig(train=1, validation=0, test=8, duration_s=6.0, size=32)), str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def packages(videos: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three detectors, the last of which sees other windows and costs the others a pass of their own."""
    folder = tmp_path_factory.mktemp("packages")
    classes = read_manifest(videos).classes
    spec = SPEC.model_copy(update={"classes": classes, "mode": "conventional"})
    longer = spec.model_copy(
        update={"window": WindowConfig(frames=32, stride_frames=16, fps=10.0, height=32, width=32)}
    )
    for seed, one in enumerate((spec, spec, longer)):
        package_model(folder / str(seed), one, one.build().state_dict())
    return [folder / str(seed) for seed in range(3)]


@pytest.fixture
def job_file(storage: Path, videos: str, packages: list[Path], tmp_path: Path) -> Path:  # noqa: F811
    """A job in whose store version 1 is champion and version 3 challenger."""
    with track_job(TrackingConfig(), job="distill", storage=str(storage), settings={}) as run:
        for package in packages:
            Registry(run.tracking_uri).register(run, NAME, package, metrics={}, tags={})
    document = {"kind": "distill", "name": "x", "storage": str(storage), "data": {"url": videos}}
    document |= {"tracking": {"registered_model": NAME}, "evaluate": {"tiou": [0.5]}, "gate": {"draws": 200}}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def detected(videos: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Give each version the share of the instances that it finds; returns the passes that were made."""
    manifest = read_manifest(videos).subset("test")

    def found(share: float) -> list[Detection]:
        random, rows = np.random.default_rng(0), [manifest.row(index) for index in range(len(manifest))]
        return [
            Detection(video=row.key, label=label, start_s=start + off, end_s=end + off, score=1.0)
            for row in rows
            for label, start, end in zip(row.labels, row.start_s, row.end_s, strict=True)
            for off in [0.0 if random.uniform() < share else 100.0]
        ]

    def arrange(failures: int = 0, **shares: float) -> list[list[str]]:
        passes: list[list[str]] = []

        def detect_videos(candidates: list[Candidate], **settings: Any) -> VideosDetected:
            for one in candidates:
                assert load_network(one.weights_urls[0])[1].inference == settings["inference"]
            passes.append([one.weights_urls[0].rpartition("version-")[2] for one in candidates])
            bad = tuple(QuarantineEntry("s", manifest.row(n).key, "no video", "decode") for n in range(failures))
            rows = {one.name: found(shares[f"v{name}"]) for one, name in zip(candidates, passes[-1], strict=True)}
            return VideosDetected(rows, bad)

        monkeypatch.setattr(trial, "detect_videos", detect_videos)
        return passes

    return arrange


def registry_of(job_file: Path) -> Registry:
    return Registry(f"sqlite:///{load_job(job_file).storage}/mlflow.db")


def test_a_better_challenger_becomes_champion_with_all_its_evidence(
    job_file: Path, detected: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    passes = detected(v1=0.2, v3=1.0)
    assert main(["gate", str(job_file)]) == 0
    assert passes == [["3"], ["1"]]  # their windows differ
    said = capsys.readouterr().out
    assert "version 3 becomes champion in place of version 1" in said and "its lower end is above +0.00" in said
    registry = registry_of(job_file)
    champion = registry.version(NAME, "champion")
    assert champion.version == 3 and champion.aliases == ("champion",)
    assert champion.tags["tadscale.gate.decision"] == "promote" and champion.tags["tadscale.gate.against"] == "1"
    [first, move] = registry.moves(NAME)
    assert (first.target, move.origin, move.target) == (1, 1, 3)
    assert move.why.startswith("gate, policy better: average mAP differs by") and move.made
    evidence = champion.tags["tadscale.gate.evidence"].removeprefix(f"runs:/{champion.run_id}/")
    assert evidence.startswith("gate/against-version-1-")
    artifacts = registry._client.download_artifacts(champion.run_id, evidence)
    assert {path.name for path in Path(artifacts).iterdir()} == {"gate.json", "gate.md", "gate.png"}
    kept = Path(load_job(job_file).run_url, "gate")
    results = json.loads((kept / "version-3.json").read_text())["results"]
    assert len(results) == 8 and (kept / "version-1.json").exists()
    document = json.loads(Path(artifacts, "gate.json").read_text())
    assert (document["decision"], document["challenger"], document["champion"]) == ("promote", 3, 1)
    assert document["evidence"]["overall"]["challenger"] == 1.0 and document["evidence"]["videos"] == 8
    assert all(not key.startswith("tadscale.gate.") for key in registry.record(NAME, 3)["tags"])


def test_every_decision_keeps_its_own_evidence_and_the_registry_shows_it(
    job_file: Path, detected: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held against one champion at two confidences, and at one of them once more."""
    detected(v1=1.0, v3=1.0)
    for confidence in (0.95, 0.9, 0.9):
        assert main(["gate", str(job_file), "--set", f"gate.confidence={confidence}"]) == 0
    registry = registry_of(job_file)
    version = registry.version(NAME, 3)
    folders = registry._client.list_artifacts(version.run_id, "gate")
    assert len(folders) == 2
    capsys.readouterr()
    store = ["--tracking-uri", registry.tracking_uri]
    assert main(["registry", "list", NAME, *store]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("3 ")]
    assert f"{version.tags['tadscale.gate.decision']} against 1: +0.0 points" in row
    assert main(["registry", "show", NAME, "3", *store]) == 0
    shown = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert shown["tadscale.gate.evidence"] == version.tags["tadscale.gate.evidence"]
    assert shown["tadscale.detector_sha256"] == version.tags["tadscale.detector_sha256"]
    assert shown["run"] == version.run_id


def test_a_challenger_that_is_no_better_stays_out(
    job_file: Path, detected: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    detected(v1=1.0, v3=1.0, v2=0.2)
    for arguments in ([], ["--version", "2", "--policy", "not_worse", "--set", "gate.margin=0.05"]):
        assert main(["gate", str(job_file), *arguments]) == 0
        assert "does not replace version 1" in capsys.readouterr().out
    registry = registry_of(job_file)
    assert registry.version(NAME, "champion").version == 1 and registry.version(NAME, "challenger").version == 3
    assert registry.version(NAME, 2).tags["tadscale.gate.decision"] == "refuse"
    assert len(registry.moves(NAME)) == 1
    assert main(["gate", str(job_file), "--policy", "not_worse", "--set", "gate.margin=0.05"]) == 0
    assert registry.version(NAME, "champion").version == 3


def test_networks_that_are_alike_share_a_pass(job_file: Path, detected: Any) -> None:
    passes = detected(v1=0.2, v2=0.2)
    job, registry = load_job(job_file), registry_of(job_file)
    outcome = run_gate(job, GateConfig(draws=100), registry, NAME, 2)
    assert passes == [["2", "1"]] and outcome.verdict is not None
    assert outcome.verdict.challenger.weights_bytes == outcome.verdict.champion.weights_bytes > 1000


def test_a_budget_of_time_is_measured_and_refuses(job_file: Path, detected: Any) -> None:
    detected(v1=0.2, v3=1.0)
    job, registry = load_job(job_file), registry_of(job_file)
    config = GateConfig.model_validate({"draws": 100, "budgets": {"seconds_per_video_second": 1e-6}})
    outcome = run_gate(job, config, registry, NAME)
    assert outcome.verdict is not None and not outcome.verdict.promote
    assert "more than the budget of 1e-06" in outcome.verdict.reasons[0]
    for cost in (outcome.verdict.challenger, outcome.verdict.champion):
        assert cost.seconds_per_video_second is not None and 0 < cost.seconds_per_video_second < 10


def test_the_second_of_two_gates_that_compared_with_one_champion_is_refused(
    job_file: Path, detected: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While version 3 runs, another gate lets version 2 in."""
    detected(v1=0.2, v3=1.0)
    registry, slow = registry_of(job_file), trial.detect_videos

    def meanwhile(*arguments: Any, **settings: Any) -> VideosDetected:
        registry.promote(NAME, 2, why="the other gate", expected=1) if registry.moves(NAME)[-1].target == 1 else None
        return slow(*arguments, **settings)

    monkeypatch.setattr(trial, "detect_videos", meanwhile)
    assert main(["gate", str(job_file)]) == 1
    assert "version 3 was compared with version 1, and the champion is version 2 now" in capsys.readouterr().err
    assert registry.version(NAME, "champion").version == 2
    assert registry.version(NAME, 3).tags["tadscale.gate.decision"].startswith("void: ")
    assert [move.target for move in registry.moves(NAME)] == [1, 2]
    with pytest.raises(ChampionChanged):
        registry.promote(NAME, 3, expected=1)


def test_a_champion_is_compared_with_nobody(job_file: Path, detected: Any, capsys: pytest.CaptureFixture[str]) -> None:
    detected()
    assert main(["gate", str(job_file), "--version", "1"]) == 0
    assert "version 1 is the champion" in capsys.readouterr().out


def test_bad_videos_are_lost_to_both_and_have_a_budget(job_file: Path, detected: Any) -> None:
    job, registry = load_job(job_file), registry_of(job_file)
    detected(v1=0.2, v3=1.0, failures=1)
    outcome = run_gate(job, GateConfig(policy="never", draws=100), registry, NAME)
    assert outcome.verdict is not None and outcome.verdict.evidence.overall.challenger < 1
    detected(v1=0.2, v3=1.0, failures=3)
    with pytest.raises(QuarantineExceeded, match="3 of 8 videos"):
        run_gate(job, GateConfig(draws=100), registry, NAME)


def test_mistakes_are_told(job_file: Path, detected: Any, capsys: pytest.CaptureFixture[str]) -> None:
    detected()
    assert main(["gate", str(job_file), "--policy", "sometimes"]) == 1
    assert "gate.policy: Input should be 'better', 'not_worse', 'always' or 'never'" in capsys.readouterr().err
    assert main(["gate", str(job_file), "--model", "nobody"]) == 1
    assert "no model 'nobody' is registered" in capsys.readouterr().err
    with pytest.raises(UserError, match="gate compares registered detectors"):
        load_job(job_file, ["tracking.registered_model=null"])


def test_moves_by_hand_are_listed_with_their_reason(job_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--tracking-uri", registry_of(job_file).tracking_uri]
    assert main(["registry", "promote", NAME, "2", "--why", "asked for by the team", *store]) == 0
    assert main(["registry", "rollback", NAME, *store]) == 0
    assert main(["registry", "moves", NAME, *store]) == 0
    said = capsys.readouterr().out
    assert "asked for by the team" in said and "rollback: by hand" in said
