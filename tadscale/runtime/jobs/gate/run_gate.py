"""The gate from end to end: a challenger becomes champion by evidence, or stays out."""

import json
from dataclasses import dataclass

from tadscale.data.annotations import detections_document
from tadscale.data.manifest import read_manifest
from tadscale.data.storage import join, write_bytes
from tadscale.gate.config import GateConfig
from tadscale.gate.evidence import compare_detectors
from tadscale.gate.verdict import Verdict, judge
from tadscale.runtime.jobs.gate.contender import lay_out
from tadscale.runtime.jobs.gate.evidence_record import record_verdict, tag_version
from tadscale.runtime.jobs.gate.trial import hold_trial
from tadscale.runtime.models.champion_alias import ChampionChanged
from tadscale.runtime.models.registry import ModelVersion, Registry
from tadscale.runtime.models.succession import CHALLENGER, CHAMPION
from tadscale.runtime.stage.job import JobConfig

GATE_FOLDER = "gate"
"""Of a run: the contenders' networks, and what they detected."""


@dataclass(frozen=True, kw_only=True)
class GateOutcome:
    """What came of it."""

    challenger: ModelVersion
    """As it stands afterwards."""
    against: int
    """The version that was champion before."""
    verdict: Verdict | None
    """None: the version is champion already, and was compared with nobody."""


def run_gate(
    job: JobConfig, config: GateConfig, registry: Registry, name: str, selector: int | str = CHALLENGER
) -> GateOutcome:
    """Compare a version with the champion on the job's test subset, record the verdict, and move the alias if it says so.

    The record is written before the alias moves. One that was killed in between is repeated, and decides anew.

    Args:
        job: names the held-out videos, how motion is made and what may be used of the cluster; its paths are absolute.
        config: how to decide.
        registry: that has both.
        name: of the registered model.
        selector: the version's number or an alias.

    Raises:
        UserError: there is no such version or no champion, or the two cannot be compared on these videos.
        ChampionChanged: another version has become champion meanwhile; the alias is left where it is.
        QuarantineExceeded: more of the videos are bad than the job allows.
        StorageError: the storage cannot be reached.
    """
    challenger, champion = registry.version(name, selector), registry.version(name, CHAMPION)
    if challenger.version == champion.version:
        settled = registry.promote(name, champion.version, expected=champion.version)
        return GateOutcome(challenger=settled, against=champion.version, verdict=None)
    verdict = _verdict(job, config, registry, challenger, champion)
    record_verdict(registry, verdict, challenger, champion)
    if verdict.promote:
        _promote(registry, verdict, challenger, champion)
    after = registry.version(name, challenger.version)
    return GateOutcome(challenger=after, against=champion.version, verdict=verdict)


def detections_name(version: int) -> str:
    """Name of the file that holds what a version detected."""
    return f"version-{version}.json"


def _verdict(
    job: JobConfig, config: GateConfig, registry: Registry, challenger: ModelVersion, champion: ModelVersion
) -> Verdict:
    manifest = read_manifest(job.data.url)
    timed = None if config.budgets.seconds_per_video_second is None else manifest.subset(job.data.test_subset)
    storage = join(job.run_url, GATE_FOLDER)
    contenders = [lay_out(registry, version, storage, timed) for version in (challenger, champion)]
    trial = hold_trial(job, manifest, contenders)
    for one, table in zip(contenders, trial.tables, strict=True):
        document = json.dumps(detections_document(table)).encode()
        write_bytes(join(storage, detections_name(one.version.version)), document)
    new, old = trial.tables
    evidence = compare_detectors(
        new,
        old,
        trial.ground_truth,
        job.evaluate.tiou,
        confidence=config.confidence,
        draws=config.draws,
    )
    return judge(evidence, config, challenger=contenders[0].cost, champion=contenders[1].cost)


def _promote(registry: Registry, verdict: Verdict, challenger: ModelVersion, champion: ModelVersion) -> None:
    why = f"gate, policy {verdict.config.policy}: {'; '.join(verdict.reasons)}"
    try:
        registry.promote(challenger.name, challenger.version, why=why, expected=champion.version)
    except ChampionChanged as changed:
        tag_version(registry, challenger, {"decision": f"void: {changed}"})
        raise
