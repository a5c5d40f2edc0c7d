"""What this machine has: the packages that jobs import, and the room that Ray has."""

import importlib.util
import shutil

import pytest

from tadscale.runtime.jobs.doctor import machine
from tadscale.runtime.jobs.preflight import places


@pytest.mark.parametrize("name", ["cv2", "scipy", "matplotlib"])
def test_what_preflight_would_miss_is_missing(name, monkeypatch):
    found = importlib.util.find_spec
    for module in (machine, places):
        monkeypatch.setattr(module, "find_spec", lambda wanted: None if wanted == name else found(wanted))
    answer = machine.packages()
    assert answer.status == "fail"
    assert f"not installed: {name};" in answer.says
    [fault] = places.packages(None)  # type: ignore[arg-type]  # it does not look at the job
    assert f"not installed here: {name};" in fault


def test_versions_are_those_of_what_is_imported(monkeypatch):
    owners = {"cv2": ["opencv-python", "opencv-python"], "mlflow": ["mlflow-skinny", "mlflow"]}
    monkeypatch.setattr(machine, "packages_distributions", lambda: owners)
    monkeypatch.setattr(machine, "version", lambda _: "4.11.0")
    answer = machine.packages()
    assert answer.status == "ok"
    assert "deepspeed, mlflow 4.11.0, av, opencv-python 4.11.0, numpy" in answer.says


def test_what_only_some_jobs_use_may_be_missing(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name in ("s3fs", "numba") else found(name))
    answer = machine.packages()
    assert answer.status == "ok"
    assert "; without s3fs, numba" in answer.says


def test_shared_memory_is_compared_with_what_the_container_may_take(monkeypatch):
    """Ray takes a share of the limit: on a machine of 1 TB, 700 MiB do for a container of 2 GiB."""
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, 700 << 20))
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2 << 30)
    assert machine.object_store().status == "ok"
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1 << 40)
    answer = machine.object_store()
    assert answer.status == "warn"
    assert "less shared memory than the 314572 MiB that Ray takes" in answer.says
