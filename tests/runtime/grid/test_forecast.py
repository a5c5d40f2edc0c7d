"""What `tadscale plan` says of a grid: what cells share is counted once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tadscale.cli import main
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.runtime.grid import forecast as module
from tadscale.runtime.grid.forecast import forecast_grid
from tadscale.runtime.grid.spec import load_grid
from tadscale.runtime.planning.forecast import forecast
from tadscale.runtime.planning.rates import EpochWindows, Rates
from tadscale.runtime.stage.spec import planned_stages, with_contents
from tests.runtime.conftest import finish

MODES = ("teacher", "baseline", "conventional", "decomposed")
RATES = Rates(
    fetch_s=0.0,
    motion_s=0.0,
    teacher_s=0.0,
    train_s=dict(zip(MODES, (1.0, 2.0, 4.0, 8.0), strict=True)),
    parameters=dict.fromkeys(MODES, 1000),
    motion_bytes=1,
    taught_bytes=1,
)
WINDOWS = EpochWindows(detectors=10, pretext=0)
JOB = {
    "kind": "distill",
    "name": "base",
    "storage": "runs",
    "data": {
        "url": "data",
        "window": {"frames": 64, "height": 56, "width": 56, "stride_frames": 64},
        "sprites": {"train": 2, "validation": 1, "test": 1, "duration_s": 8, "size": 56},
    },
    "optim": {"epochs": 3, "global_batch": 2},
}
GRID = {
    "kind": "grid",
    "name": "planned",
    "storage": "runs",
    "job": "base.yaml",
    "axes": {
        "width": {"narrow": {"model": {"backbone": {"name": "small3d", "width": 8}}}, "wide": {}},
        "fusion": {"laf": {}, "sum": {"model": {"fusion": "sum"}}},
    },
    "seeds": [0, 1],
}


@pytest.fixture
def grid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of windows that take as long as `RATES` says, and are timed in vain."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(JOB, sort_keys=False))
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID, sort_keys=False))
    monkeypatch.setattr(module, "measure_rates", lambda job, modes, appearance: (RATES, WINDOWS))
    return tmp_path / "grid.yaml"


def test_a_combination_takes_its_students_and_what_no_other_trains_for_it(grid_file):
    _, cells = load_grid(grid_file)
    rows = {row.choices: row for row in forecast_grid(cells, cpus=100)}
    one = {stage.mode: stage.seconds for stage in forecast(cells[0].jobs["decomposed"], WINDOWS, RATES, 100).stages}
    one |= {stage.mode: stage.seconds for stage in forecast(cells[0].jobs["conventional"], WINDOWS, RATES, 100).stages}
    assert set(one) == set(MODES)
    for width in ("narrow", "wide"):
        first, second = rows[width, "laf"], rows[width, "sum"]
        assert first.networks == 2 * 4 and second.networks == 2  # fusion is the decomposed student's alone
        assert first.seconds == pytest.approx(2 * sum(one.values()))
        assert second.seconds == pytest.approx(2 * one["decomposed"])


def test_a_combination_that_trains_nothing_of_its_own_takes_no_time(grid_file):
    suppression = {"gaussian": {}, "hard": {"evaluate": {"inference": {"nms": {"method": "hard"}}}}}
    grid_file.write_text(yaml.safe_dump(GRID | {"axes": {"nms": suppression}}))
    first, second = forecast_grid(load_grid(grid_file)[1], cpus=100)
    assert first.networks == 2 * 4 and (second.networks, second.seconds) == (0, 0.0)


def test_what_is_finished_is_counted_apart_and_takes_no_time(grid_file):
    _, cells = load_grid(grid_file)
    small = SpritesConfig(train=2, validation=1, test=1, duration_s=8, size=56)
    write_shards(draw_videos(small), "data", videos_per_shard=20)
    before = {row.choices: row for row in forecast_grid(cells, cpus=100)}
    for cell in cells[:2]:  # narrow.laf, with both seeds
        for stage in planned_stages(cell.jobs["conventional"]):
            finish(with_contents(stage))
    rows = {row.choices: row for row in forecast_grid(cells, cpus=100)}
    first, one = rows["narrow", "laf"], before["narrow", "sum"]
    assert (first.networks, first.finished) == (2, 2 * 3)
    assert first.seconds == pytest.approx(one.seconds)  # the decomposed students alone
    del rows["narrow", "laf"], before["narrow", "laf"]
    assert rows == before


def test_every_combination_is_timed_once_in_all_modes_that_it_trains(grid_file, monkeypatch):
    timed: list[tuple[int, list[str]]] = []

    def measure(job: Any, modes: list[str], appearance: Any) -> tuple[Rates, EpochWindows]:
        timed.append((job.model.backbone.width, modes))
        return RATES, WINDOWS

    monkeypatch.setattr(module, "measure_rates", measure)
    forecast_grid(load_grid(grid_file)[1], cpus=2)
    needed = [list(MODES), ["decomposed"]]  # the second takes all else from the first
    assert timed == [(width, modes) for width in (8, 16) for modes in needed]


def test_the_command_prints_a_row_a_combination_and_the_sum(grid_file, capsys):
    assert main(["plan", str(grid_file), "--cpus", "100"]) == 0
    said = capsys.readouterr().out
    assert "narrow" in said and "sum" in said and "20" in said and "8 cells one after the other" in said
    assert main(["plan", str(grid_file), "--kubernetes"]) == 1
    assert "the job that it names" in capsys.readouterr().err
