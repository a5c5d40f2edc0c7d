import subprocess
from pathlib import Path

import pytest

import tadscale
from tadscale.runtime.tracking import provenance
from tadscale.runtime.tracking.provenance import code_version, hardware, memory_bytes, provenance_tags


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


@pytest.mark.parametrize(
    ("limits", "gib"),
    [
        ({"memory.max": f"{2 << 30}\n"}, 2),
        ({"memory.limit_in_bytes": f"{3 << 30}\n"}, 3),
        ({"memory.max": "max\n"}, 16),
        ({"memory.limit_in_bytes": "9223372036854771712\n"}, 16),
        ({}, 16),
    ],
)
def test_memory_is_what_the_container_may_take(
    limits: dict[str, str], gib: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": (16 << 30) // 4096}
    monkeypatch.setattr(provenance.os, "sysconf", pages.__getitem__)
    for name, text in limits.items():
        (tmp_path / name).write_text(text)
    places = (tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes")
    monkeypatch.setattr(provenance, "MEMORY_LIMITS", places)
    assert memory_bytes() == gib << 30
    assert f", {gib} GiB, " in hardware()
