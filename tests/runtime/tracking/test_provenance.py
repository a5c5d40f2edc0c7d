import subprocess
from pathlib import Path

import pytest

import tadscale
from tadscale.runtime.tracking import provenance
from tadscale.runtime.tracking.provenance import code_version, provenance_tags


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_version_names_the_commit_of_this_very_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tadscale"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance.tadscale, "__file__", str(package / "__init__.py"))
    assert code_version() == tadscale.__version__  # no repository
    git(tmp_path, "init", "-q")
    assert code_version() == tadscale.__version__  # a repository that does not hold the package, as around a venv
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert code_version() == f"{tadscale.__version__}+g{commit}"
    (package / "__init__.py").write_text("changed = True\n")
    assert code_version() == f"{tadscale.__version__}+g{commit}.dirty"


def test_tags_name_code_packages_and_machine() -> None:
    tags = provenance_tags()
    assert tags["tadscale.version.torch"].startswith("2.")
    assert tags["tadscale.code_version"].startswith(tadscale.__version__)
    assert "CPUs" in tags["tadscale.hardware"] and (
        "GPU" in tags["tadscale.hardware"] or " x " in tags["tadscale.hardware"]
    )
