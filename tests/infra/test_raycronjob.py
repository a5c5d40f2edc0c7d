"""Why infra/README.md chooses CronJob over KubeRay's RayCronJob: the day this fails, choose again."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("TADSCALE_SHARED", ROOT.parent / "shared"))


def test_raycronjob_has_no_concurrency_policy() -> None:
    path = SHARED / "schemas/raycronjobs.v1.json"
    if not path.exists():
        pytest.skip(f"KubeRay's schema is not here: {path} (TADSCALE_SHARED names the folder above schemas/)")
    spec = json.loads(path.read_text())["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert set(spec) == {"schedule", "timeZone", "suspend", "jobTemplate"}
