"""Where Ray spills to is looked for where Ray looks, and only where the job starts Ray here."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ray._common.utils import get_default_system_temp_dir

from tadscale.runtime.jobs.doctor import machine
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.jobs.preflight.storage import spill_folder, spilling
from tadscale.runtime.stage.job import JobConfig


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"RAY_TMPDIR": "ray", "TMPDIR": "own", "TEMP": "other"}, "ray"),
        ({"TMPDIR": "own", "TEMP": "other"}, "own"),
        ({"TEMP": "other"}, "/tmp"),
    ],
)
def test_the_folder_is_the_one_that_ray_takes(environment, folder, tmp_path, monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    for name, place in environment.items():
        (tmp_path / place).mkdir()
        monkeypatch.setenv(name, str(tmp_path / place))
    assert spill_folder() == tmp_path / folder == Path(get_default_system_temp_dir())


def test_of_a_folder_that_is_not_there_yet_its_nearest_parent_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "to/be/made"))
    assert spill_folder() == tmp_path


@pytest.fixture
def full_but_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a disk with room; all others are full."""
    usage = type(shutil.disk_usage("/"))
    room, full = usage(100 << 20, 10 << 20, 90 << 20), usage(100 << 20, 99 << 20, 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: room if Path(place) == tmp_path else full)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return tmp_path


def test_the_remedy_works(full_but_for: Path, job: Callable[..., JobConfig], monkeypatch):
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    [fault] = spilling(Facts(job()))
    assert "set RAY_TMPDIR" in fault
    assert machine.object_store().status == "fail"
    monkeypatch.setenv("RAY_TMPDIR", str(full_but_for))
    assert list(spilling(Facts(job()))) == []
    assert machine.object_store().status != "fail"


def test_a_full_disk_here_is_no_fault_where_ray_runs_elsewhere(full_but_for: Path, job: Callable[..., JobConfig]):
    assert list(spilling(Facts(job(cluster__address="ray://elsewhere:10001")))) == []
    assert len(list(spilling(Facts(job())))) == 1
