"""A grid: which jobs it is, where it goes on, and what its table says."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tadscale.cli import main
from tadscale.data.windows import WindowConfig
from tadscale.errors import UserError
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.network import NetworkSpec, save_network
from tadscale.runtime.cluster.stopping import Preempted, StopToken
from tadscale.runtime.grid import run_grid as module
from tadscale.runtime.grid.results import job_digest
from tadscale.runtime.grid.sharing import with_shared_teachers
from tadscale.runtime.grid.spec import Cell, load_grid, merged
from tadscale.runtime.jobs.lease import LeaseHeld, leased
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import planned_stages, stage_of, with_contents
from tests.runtime.conftest import finish
from tests.runtime.grid.conftest import JOB, cell_of, draw

ON_VALIDATION = "settings.data.test_subset=validation"


def test_a_grid_is_every_combination_with_every_seed(grid_file):
    _, cells = load_grid(grid_file())
    assert [cell.name for cell in cells] == [
        f"{width}.{fusion}.seed{seed}" for width in ("narrow", "wide") for fusion in ("laf", "sum") for seed in (0, 1)
    ]
    job = cell_of(cells, "narrow.sum.seed1")
    assert (job.seed, job.model.backbone.width, job.model.fusion, job.model.head.levels) == (1, 8, "sum", 3)
    assert (job.optim.epochs, job.run_url) == (2, "runs/agnostic/narrow.sum.seed1")
    assert job.tracking.registered_model is None
    assert cell_of(cells, "wide.laf.seed0").model.backbone.width == JobConfig.model_validate(JOB).model.backbone.width


def test_cells_register_nothing_and_so_compare_nothing_with_a_champion(grid_file):
    path = grid_file()
    path.with_name("base.yaml").write_text(yaml.safe_dump(JOB | {"gate": {}}))
    assert cell_of(load_grid(path)[1], "narrow.sum.seed1").gate is None


def test_what_is_chosen_by_name_is_replaced_whole_and_groups_are_merged():
    tree = {"head": {"name": "a", "levels": 3}, "optim": {"lr": 1, "epochs": 2}}
    assert merged(tree, {"head": {"name": "b"}, "optim": {"lr": 5}}) == {
        "head": {"name": "b"},
        "optim": {"lr": 5, "epochs": 2},
    }
    assert merged(tree, {"head": {"levels": 4}})["head"] == {"name": "a", "levels": 4}
    assert tree["optim"]["lr"] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"axes": {}}, "axes"),
        ({"axes": {"head": {}}}, "at least one choice"),
        ({"axes": {"head": {"a.b": {}}}}, "a.b"),
        ({"seeds": []}, "seeds: there is none"),
        ({"seeds": 3}, r"seeds: 3 is no list; write \[A, B\]"),
        ({"axes": {"fusion": ["laf", "sum"]}}, r"axes.fusion: \['laf', 'sum'\] is no group of settings; write {KEY"),
        ({"seeds": [0, 1, 0]}, "seeds: 0 stands twice"),
        ({"modes": ["decomposed", "decomposed"]}, "modes: decomposed stands twice"),
        ({"settings": {"seed": 4}}, r"settings sets seed, which the grid decides: write it under `seeds`"),
        ({"axes": {"way": {"a": {"student": {"mode": "conventional"}}}}}, r"axes.way.a sets student.mode"),
        (
            {"axes": {"fusion": {"laf": {"model": {"fusion": "laf"}}, "base": {}}}},
            r"laf.seed0 and base.seed0 are the same",
        ),
        (
            {"axes": {"a": {"x": {"model": {"dim": 32}}, "y": {}}, "b": {"z": {"model": {"dim": 48}}}}},
            r"x.z.seed0 and y.z.seed0 are the same job",
        ),
        ({"axes": {"dim": {"x": {"model": {"dim": -1}}, "y": {"model": {"dim": -2}}}}}, r"(?s)x.seed0.*y.seed0"),
        ({"modes": ["baseline"]}, "modes"),
        ({"jobb": "x"}, "did you mean `job`"),
        ({"axes": {"head": {"x": {"model": {"hed": {}}}}}}, r"x.seed0 \(decomposed\)"),
    ],
)
def test_a_grid_that_does_not_hold_is_refused_by_name(grid_file, changes, says):
    with pytest.raises(UserError, match=says):
        load_grid(grid_file(**changes))


def test_a_job_of_another_kind_is_no_grid_s(grid_file):
    path = grid_file()
    path.with_name("base.yaml").write_text(yaml.safe_dump(JOB | {"kind": "teacher"}))
    with pytest.raises(UserError, match="is of kind teacher, and a grid's cells are of kind distill"):
        load_grid(path)


def test_weights_that_the_last_cell_starts_from_are_missed_before_the_first_is_trained(grid_file, trained):
    narrow = {"name": "small3d", "width": 8}
    axes = {"start": {"none": {}, "file": {"model": {"backbone": narrow | {"weights": "nosuch.safetensors"}}}}}
    with pytest.raises(UserError, match=r"(?s)file.seed0 \(decomposed\).*nosuch.safetensors"):
        module.run_grid(*load_grid(grid_file(axes=axes, seeds=[0])), Console(), StopToken())
    assert trained.ran == []


def test_a_start_that_fits_the_first_cell_alone_is_found_before_it_is_trained(grid_file, trained, tmp_path):
    spec = NetworkSpec(
        mode="baseline", model=ModelConfig(backbone=Small3dConfig(width=8)), classes=("a",), window=WindowConfig()
    )
    save_network(str(tmp_path / "start"), spec, spec.build().state_dict())
    backbones = {f"w{width}": {"name": "small3d", "width": width, "weights": "start"} for width in (8, 16)}
    axes = {"width": {name: {"model": {"backbone": backbone}} for name, backbone in backbones.items()}}
    with pytest.raises(UserError, match=r"(?s)w16.seed0 \(decomposed\).*is another one than this job's"):
        module.run_grid(*load_grid(grid_file(axes=axes)), Console(), StopToken())
    assert trained.ran == []


def finish_all(cells: list[Cell]) -> None:
    """What an earlier grid left, without its results."""
    for cell in with_shared_teachers(cells):
        for stage in map(with_contents, planned_stages(cell.jobs["decomposed"])):
            finish(stage)


def test_what_lies_in_the_place_of_another_stage_is_found_in_every_cell_with_every_seed(grid_file, trained, tmp_path):
    before = {"fusion": {"laf": {}, "sum": {"model": {"fusion": "sum"}}}}
    _, cells = load_grid(grid_file(axes=before))
    finish_all(cells)
    shutil.rmtree(tmp_path / "runs/agnostic/sum.seed0")
    now = {"fusion": {"sq": {"model": {"fusion": "squeeze_excitation"}}, "sum": {"model": {"fusion": "concat"}}}}
    with pytest.raises(UserError, match=r"sum.seed1/decomposed holds .*changed: model.fusion \(sum -> concat\)"):
        module.run_grid(*load_grid(grid_file(axes=now)), Console(), StopToken())
    assert trained.ran == []


def test_what_rests_on_the_teacher_of_another_cell_that_does_not_fit_is_named(grid_file, trained, tmp_path):
    axes = {"fusion": {"laf": {}, "sum": {"model": {"fusion": "sum"}}}}
    finish_all(load_grid(grid_file(axes=axes, seeds=[0]))[1])
    slower = {"optim": {"epochs": 2}, "teacher": {"lr": 1.0e-5}}
    with pytest.raises(UserError, match="teacher holds a stage") as refused:
        module.run_grid(*load_grid(grid_file(axes=axes, seeds=[0], settings=slower)), Console(), StopToken())
    folders = [f"{tmp_path}/runs/agnostic/{stage}" for stage in ("laf.seed0/decomposed", "sum.seed0/decomposed")]
    assert str(refused.value).endswith(", ".join(f"{folder} (which rests on what does not fit)" for folder in folders))


def test_a_grid_that_runs_already_is_left_alone(grid_file, trained, tmp_path):
    axes = {"fusion": {"laf": {}, "sum": {"model": {"fusion": "sum"}}}}
    grid, cells = load_grid(grid_file(axes=axes, seeds=[0]))
    with leased(str(tmp_path / "runs/agnostic"), StopToken()):
        with pytest.raises(LeaseHeld):
            module.run_grid(grid, cells, Console(), StopToken())
        assert trained.ran == [] and not (tmp_path / "runs/mlflow.db").exists()


def test_what_was_kept_of_other_videos_is_not_compared_with_these(grid_file, trained, tmp_path):
    axes = {"fusion": {"laf": {}, "sum": {"model": {"fusion": "sum"}}}}
    path = grid_file(axes=axes, seeds=[0])
    module.run_grid(*load_grid(path), Console(), StopToken())
    trained.ran.clear()
    draw(tmp_path / "data", test=9)
    module.run_grid(*load_grid(path), Console(), StopToken())
    assert trained.ran == ["laf.seed0", "sum.seed0"]
    trained.ran.clear()
    for kept in (tmp_path / "runs/agnostic/results").iterdir():  # as earlier versions left them
        document = json.loads(kept.read_text())
        del document["contents"]
        kept.write_text(json.dumps(document))
    module.run_grid(*load_grid(path), Console(), StopToken())
    assert trained.ran == []


def test_overrides_reach_the_grid_and_through_settings_every_job(grid_file):
    grid, cells = load_grid(grid_file(), ["settings.optim.epochs=7", "seeds=[5]"])
    assert {cell.seed for cell in cells} == {5} and {
        job.optim.epochs for cell in cells for job in cell.jobs.values()
    } == {7}
    assert grid.seeds == (5,)


def test_all_cells_that_would_fail_are_named_before_the_first_is_trained(grid_file, capsys):
    sprites = {"train": 2, "validation": 1, "test": 1, "duration_s": 8, "size": 56}
    path = grid_file(settings={"data": {"sprites": sprites, "test_subset": "tset"}})
    assert main(["validate", str(path)]) == 1
    said = "".join(capsys.readouterr())
    assert all(f"{cell.name} (decomposed)" in said for cell in load_grid(path)[1])
    assert "tset" in said


def test_a_grid_ends_with_its_table_and_is_not_run_twice(grid_file, trained, tmp_path, capsys):
    axes = {"fusion": {"laf": {}, "sum": {"model": {"fusion": "sum"}}}}
    path = grid_file(axes=axes, modes=["conventional", "decomposed"])
    grid, cells = load_grid(path)
    rows = module.run_grid(grid, cells, Console(), StopToken())
    assert trained.ran == [cell.name for cell in cells for _ in cell.jobs]
    assert len({tags["mlflow.parentRunId"] for tags in trained.tags}) == 1
    folder = tmp_path / "runs/agnostic"
    table = list(csv.DictReader((folder / "table-test.csv").open()))
    assert len(table) == 2 * 5 * 2  # combinations x detectors x seeds
    baseline = {float(line["average_mAP"]) for line in table if line["detector"] == "baseline"}
    assert len(baseline) == 1 and rows[0].mean("baseline") == pytest.approx(100 * baseline.pop(), abs=1e-3)
    compared = rows[0].against_baseline["decomposed"]
    assert 100 * compared.difference == pytest.approx(rows[0].mean("decomposed") - rows[0].mean("baseline"))
    assert compared.low <= compared.difference <= compared.high
    lines = (folder / "table-test.md").read_text().splitlines()
    assert lines[0].startswith("| fusion | seeds | teacher | baseline | conventional | decomposed | two_stream |")
    assert lines[2].startswith("| laf |") and "±" in lines[2]
    assert (folder / "table-test.png").stat().st_size > 1000

    trained.ran.clear()
    again = module.run_grid(grid, cells, Console(), StopToken())
    assert trained.ran == [] and again[1].averages == rows[1].averages

    _, changed = load_grid(path, ["settings.optim.epochs=3"])
    module.run_grid(grid, changed, Console(), StopToken())
    assert len(trained.ran) == 8  # another job is another result


def test_a_grid_on_a_single_test_video_has_a_table_and_no_intervals(grid_file, trained, tmp_path):
    draw(tmp_path / "data", test=1)
    trained.truth = dict(list(trained.truth.items())[:1])
    [row] = module.run_grid(*load_grid(grid_file(axes={"fusion": {"laf": {}}}, seeds=[0])), Console(), StopToken())
    assert row.against_baseline == {} and row.mean("decomposed") == 100
    assert "| laf |" in (tmp_path / "runs/agnostic/table-test.md").read_text()


def raising(error: BaseException) -> Callable[..., Any]:
    def run(*job: Any, **tags: Any) -> Any:
        raise error

    return run


def test_a_grid_that_is_stopped_leaves_the_table_of_what_it_has_run(grid_file, trained, tmp_path, monkeypatch, capsys):
    axes = {"fusion": {"laf": {}, "sum": {"model": {"fusion": "sum"}}}}
    grid, cells = load_grid(grid_file(axes=axes))

    def stopped(job: JobConfig, console: Console, stop: StopToken, tags: dict[str, str]) -> Any:
        if job.name == "sum.seed1":
            raise Preempted("told to stop")
        return trained(job, console, stop, tags)

    monkeypatch.setattr(module, "run_job", stopped)
    with pytest.raises(Preempted):
        module.run_grid(grid, cells, Console(), StopToken())
    said = capsys.readouterr().out
    assert "1 of 4: laf.seed0" in said and "4 of 4: sum.seed1" in said
    table = list(csv.DictReader((tmp_path / "runs/agnostic/table-test.csv").open()))
    seeds = [(line["fusion"], line["seed"]) for line in table if line["detector"] == "decomposed"]
    assert seeds == [("laf", "0"), ("laf", "1"), ("sum", "0")]


def test_more_seeds_keep_the_table_that_there_was(grid_file, trained, tmp_path, monkeypatch):
    axes = {"fusion": {"laf": {}, "sum": {"model": {"fusion": "sum"}}}}
    path = grid_file(axes=axes, seeds=[0])
    module.run_grid(*load_grid(path), Console(), StopToken())
    whole = (tmp_path / "runs/agnostic/table-test.md").read_text()
    stop = StopToken()
    monkeypatch.setattr(module, "run_job", raising(Preempted("told to stop")))
    with pytest.raises(Preempted):
        module.run_grid(*load_grid(path, ["seeds=[0, 1]"]), Console(), stop)
    assert (tmp_path / "runs/agnostic/table-test.md").read_text() == whole


def test_scores_are_never_compared_with_the_detections_of_other_videos(grid_file, trained, tmp_path, monkeypatch):
    """A grid is scored on test; on validation it is stopped with its detections written and its scores not."""
    path = grid_file(axes={"fusion": {"laf": {}}}, seeds=[0])
    [first] = module.run_grid(*load_grid(path), Console(), StopToken())

    def stopped(job: JobConfig, *rest: Any, **tags: Any) -> Any:
        for name in ("baseline", "decomposed"):
            Path(job.run_url, "evaluation", f"{name}.json").write_text(json.dumps({"results": {}}))
        raise Preempted("told to stop")

    monkeypatch.setattr(module, "run_job", stopped)
    with pytest.raises(Preempted):
        module.run_grid(*load_grid(path, [ON_VALIDATION]), Console(), StopToken())
    monkeypatch.setattr(module, "run_job", trained)
    [again] = module.run_grid(*load_grid(path), Console(), StopToken())
    assert again == first


def test_to_score_a_grid_on_validation_trains_nothing_anew(grid_file):
    """Who chooses by the table chooses on validation, and tests afterwards."""
    path = grid_file()
    test, validation = (load_grid(path, changes)[1][0].jobs["decomposed"] for changes in ([], [ON_VALIDATION]))
    assert validation.data.test_subset == "validation" and job_digest(validation) != job_digest(test)
    for mode in ("teacher", "baseline", "decomposed"):
        one, other = stage_of(test, mode), stage_of(validation, mode)
        assert (one.identity, one.plan, one.url) == (other.identity, other.plan, other.url)
