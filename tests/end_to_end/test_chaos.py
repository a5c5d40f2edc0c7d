"""Three minutes of what happens to a cluster and its storage: no step is lost, repeated or another."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.test_distill import BIN, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_disturbed_training_is_the_undisturbed_one(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    command = [str(BIN / "python"), "-m", "benchmarks.chaos", "--minutes", "3", "--epochs", "40", "--seed", "1"]
    done = subprocess.run(
        [*command, "--report", str(report)],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=1400,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert report.read_text().startswith("**Held**")
