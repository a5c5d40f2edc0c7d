"""infra/Dockerfile read as text: it is not built here."""

import fnmatch
import importlib.metadata
import itertools
import os
import re
import tomllib
from pathlib import Path

import pytest
import sqlalchemy
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "infra/Dockerfile").read_text()
# One instruction a line: continued lines joined, comments gone.
INSTRUCTIONS = [
    tuple(line.split(maxsplit=1))
    for line in re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    if line.strip()
]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def test_base_and_working_directory() -> None:
    assert INSTRUCTIONS[:2] == [
        ("ARG", "BASE=python:3.11-slim"),
        ("FROM", "${BASE}"),
    ]  # a digest may stand in its place
    assert arguments("WORKDIR") == ["/app"]


def test_runs_as_a_user_that_kubernetes_knows_is_not_root() -> None:
    assert INSTRUCTIONS[-2:] == [("USER", "ray"), ("CMD", '["python", "-m", "tadscale", "--help"]')]
    assert any("useradd --uid 1000 " in run for run in arguments("RUN"))
    assert "runAsUser: 1000" in (ROOT / "infra/kubernetes/base/rayjob.yaml").read_text()


def test_torch_comes_first_from_wherever_the_builder_says() -> None:
    installs = [run for run in arguments("RUN") if "pip install" in run]
    assert installs[0].endswith(" torch")
    assert '${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"}' in installs[0]
    assert "://" not in DOCKERFILE


def test_what_the_builder_may_say_is_told_in_the_image() -> None:
    declared = {argument.partition("=")[0] for argument in arguments("ARG")}
    assert declared == {"BASE", "TORCH_INDEX_URL", "VERSION", "REVISION"}
    (labels,) = arguments("LABEL")
    assert set(re.findall(r'org\.opencontainers\.image\.(\w+)="', labels)) == {
        "title",
        "version",
        "revision",
        "licenses",
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"VERSION={project['version']}" in arguments("ARG")
    readme = (ROOT / "infra/README.md").read_text()
    assert all(f"--build-arg {name}=" in readme for name in declared)
    assert "--sbom=true --provenance=" in readme


def test_postgresql_is_reached_by_the_driver_that_sqlalchemy_asks_for() -> None:
    """`postgresql://`, as MLflow is given it, names no driver: SQLAlchemy has one of its own choice, psycopg 3 since 2.1."""
    (install,) = [run for run in arguments("RUN") if '".[train]"' in run]
    installed = [Requirement(text) for text in re.findall(r'"([^"]+)"', install)[:-1]]
    installed = [requirement for requirement in installed if requirement.name.startswith("psycopg")]
    extra = {"extra": "postgresql"}
    every = map(Requirement, importlib.metadata.requires("sqlalchemy") or [])
    (asked,) = [r for r in every if r.marker and r.marker.evaluate(extra) and not r.marker.evaluate({"extra": ""})]
    (driver,) = installed
    assert asked.name == sqlalchemy.make_url("postgresql://mlflow@db/mlflow").get_dialect().driver == driver.name
    (pin,) = driver.specifier
    assert asked.specifier.contains(pin.version)
    assert driver.extras == {"binary"}  # with libpq: the image has none


def test_mlflow_can_ask_for_passwords() -> None:
    """`--app-name=basic-auth` needs what MLflow's extra `auth` names, at a version that it allows."""
    (install,) = [run for run in arguments("RUN") if '".[train]"' in run]
    installed = {r.name: r for r in map(Requirement, re.findall(r'"([^"]+)"', install)[:-1])}
    asked = [r for r in map(Requirement, importlib.metadata.requires("mlflow") or []) if r.marker]
    for requirement in asked:
        if requirement.marker.evaluate({"extra": "auth"}) and not requirement.marker.evaluate({"extra": ""}):
            (pin,) = installed[requirement.name].specifier
            assert requirement.specifier.contains(pin.version)


def test_compiler_has_the_headers_that_it_includes() -> None:
    """Debian only recommends libc6-dev beside gcc, and Triton's launchers include stdlib.h."""
    (install,) = [run for run in arguments("RUN") if "apt-get install" in run]
    assert "--no-install-recommends" in install
    assert {"gcc", "libc6-dev", "wget"} <= set(install.split())


def copied() -> list[str]:
    return [source for copy in arguments("COPY") for source in copy.split()[:-1]]


@pytest.mark.parametrize("source", copied())
def test_copied_files_exist_and_are_not_ignored(source: str) -> None:
    assert (ROOT / source).exists()
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed)


def test_nothing_else_is_sent_to_the_builder() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(allowed) == sorted(set(copied()))


def test_every_job_is_executable() -> None:
    """COPY keeps the bit, and the RayJob's entrypoint is the file."""
    jobs = list((ROOT / "jobs").rglob("*.yaml"))
    assert jobs
    assert [job for job in jobs if not os.access(job, os.X_OK)] == []


# Torch's CUDA build asks for one version of it, and a pin of another would refuse that build; constraints.txt says so.
UNPINNED = {"triton"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def asked_for() -> list[Requirement]:
    """What tadscale depends on here, with all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = itertools.chain(*project["optional-dependencies"].values())
    every = [Requirement(text) for text in [*project["dependencies"], *extras]]
    return [r for r in every if r.name != "tadscale" and (r.marker is None or r.marker.evaluate())]


def needed(requirement: Requirement) -> list[Requirement]:
    """What an installed package depends on, here and with these extras."""
    every = map(Requirement, importlib.metadata.requires(requirement.name) or [])
    extras = requirement.extras or {""}
    return [r for r in every if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in extras)]


@pytest.mark.parametrize("requirement", asked_for(), ids=str)
def test_constraints_meet_the_project(requirement: Requirement) -> None:
    """Every dependency, of every extra, is pinned at a version that pyproject.toml allows."""
    name = canonicalize_name(requirement.name)
    assert name in UNPINNED or requirement.specifier.contains(pins()[name])


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch's CUDA build brings packages of its own")
def test_constraints_hold_all_that_is_installed_with_it() -> None:
    """What the resolver may choose may break a build that was tested."""
    waiting, seen = asked_for(), set[str]()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) not in seen:
            seen.add(str(requirement))
            waiting += needed(requirement)
    names = {canonicalize_name(Requirement(text).name) for text in seen}
    assert names - pins().keys() == UNPINNED


def test_constraints_name_the_torch_of_the_makefile() -> None:
    assert f"torch=={pins()['torch']}\n" in (ROOT / "Makefile").read_text()
