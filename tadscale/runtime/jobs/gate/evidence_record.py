"""The verdict in MLflow: artifacts of the challenger's run, tags of its version."""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tadscale.gate.verdict import Verdict
from tadscale.report.gate import gate_markdown, plot_gate
from tadscale.runtime.models.registry import GATE_PREFIX, ModelVersion, Registry
from tadscale.runtime.tracking.redact import redact
from tadscale.runtime.tracking.run import Run


def record_verdict(registry: Registry, verdict: Verdict, challenger: ModelVersion, champion: ModelVersion) -> None:
    """Write gate.json, gate.md and gate.png under `gate/against-version-N-DIGEST` of the run, and the figures as tags.

    The digest is of the comparison, but for what it cost: repeated it writes the same files, and another one (other videos,
    another policy) does not take the place of the evidence that an earlier decision rests on.
    """
    title = f"{challenger.name}: version {challenger.version} against version {champion.version}"
    versions = {"model": challenger.name, "challenger": challenger.version, "champion": champion.version}
    document = redact(versions | verdict.to_dict())
    compared = json.dumps({name: value for name, value in document.items() if name != "cost"})
    digest = hashlib.sha256(compared.encode()).hexdigest()[:8]
    folder = f"gate/against-version-{champion.version}-{digest}"
    with TemporaryDirectory() as here:
        Path(here, "gate.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        Path(here, "gate.md").write_text(gate_markdown(verdict, title), encoding="utf-8")
        plot_gate(verdict, title, Path(here, "gate.png"))
        Run(registry.tracking_uri, challenger.run_id, registry.patience_s).log_folder(Path(here), folder)
    overall = verdict.evidence.overall
    tags = {
        "decision": verdict.decision,
        "policy": verdict.config.policy,
        "against": str(champion.version),
        "difference": f"{overall.difference:.6f}",
        "interval": f"{overall.low:.6f} {overall.high:.6f}",
        "worse_share": f"{overall.worse_share:.4f}",
        "evidence": f"runs:/{challenger.run_id}/{folder}",
    }
    tag_version(registry, challenger, tags)


def tag_version(registry: Registry, version: ModelVersion, tags: dict[str, str]) -> None:
    """Set tags of the gate's."""
    registry.set_version_tags(
        version.name, version.version, {f"{GATE_PREFIX}{key}": value for key, value in tags.items()}
    )
