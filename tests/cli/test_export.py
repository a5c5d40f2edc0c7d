"""`tadscale export`: what is written where, and what is said."""

from pathlib import Path
from typing import Any

import pytest

from tadscale.cli import main
from tests.serving.conftest import package  # noqa: F401


def test_what_is_asked_for_is_written_and_said(
    package: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exporting itself takes long, and is tested where it is."""
    asked: list[Any] = []

    def export(detector: Path, out: Path, **how: str) -> Path:
        asked.append((detector, out, how))
        out.mkdir()
        (out / "detector.pt2").write_bytes(bytes(1_230_000))
        return out / "detector.pt2"

    monkeypatch.setattr("tadscale.serving.export.export_detector", export)
    arguments = ["export", str(package), str(tmp_path / "out"), "--format", "torch_export", "--precision", "int8"]
    assert main(arguments) == 0
    how = {"form": "torch_export", "precision": "int8"}
    assert asked == [(package / "artifacts" / "detector", tmp_path / "out", how)]
    out = capsys.readouterr().out
    assert "detector.pt2: 1.23 MB" in out and "detector.json" in out


def test_what_is_no_model_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "no exported detector" in capsys.readouterr().err and not (tmp_path / "out").exists()
