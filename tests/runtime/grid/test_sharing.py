"""What cells of a grid have in common is trained in one of them."""

from rich.console import Console

from tadscale.runtime.cluster.stopping import StopToken
from tadscale.runtime.grid import run_grid as module
from tadscale.runtime.grid.results import job_digest
from tadscale.runtime.grid.sharing import EqualStages, with_shared_teachers
from tadscale.runtime.grid.spec import load_grid
from tadscale.runtime.stage.spec import planned_stages, stage_of, with_contents
from tadscale.runtime.training.resume import finished_stage
from tests.runtime.conftest import finish
from tests.runtime.grid.conftest import GRID, cell_of


def test_teachers_that_would_be_the_same_are_trained_once(grid_file):
    _, cells = load_grid(grid_file())
    urls = {cell.name: cell.jobs["decomposed"].teacher.url for cell in with_shared_teachers(cells)}
    own = [name for name, url in urls.items() if url is None]
    assert own == ["narrow.laf.seed0", "narrow.laf.seed1", "wide.laf.seed0", "wide.laf.seed1"]
    assert urls["wide.sum.seed1"].endswith("agnostic/wide.laf.seed1/teacher/weights")  # fusion is a student's alone


def test_a_choice_put_before_others_later_takes_their_teacher_and_leaves_their_results(grid_file, trained):
    axes = GRID["axes"]
    _, cells = load_grid(grid_file())
    before = {cell.name: job_digest(cell.jobs["decomposed"]) for cell in with_shared_teachers(cells)}
    teacher = stage_of(cell_of(cells, "wide.laf.seed0"), "teacher")
    finish(teacher)
    fusions = {"concat": {"model": {"fusion": "concat"}}} | axes["fusion"]
    _, more = load_grid(grid_file(axes={"width": axes["width"], "fusion": fusions}))
    shared = with_shared_teachers(more)
    after = {cell.name: job_digest(cell.jobs["decomposed"]) for cell in shared}
    assert all(after[name] == before[name] for name in before if name.startswith("wide") and name.endswith("seed0"))
    assert cell_of(shared, "wide.concat.seed0").teacher.url == teacher.weights_url


def test_a_teacher_that_was_trained_with_other_settings_before_is_nobodys(grid_file, trained):
    axes = {"fusion": GRID["axes"]["fusion"]}
    _, cells = load_grid(grid_file(axes=axes, seeds=[0]))
    finish(stage_of(cell_of(cells, "sum.seed0"), "teacher"))
    longer = ["settings.optim.epochs=20"]
    for changes, first in (([], "sum"), (longer, "laf")):
        urls = [
            cell.jobs["decomposed"].teacher.url for cell in with_shared_teachers(load_grid("grid.yaml", changes)[1])
        ]
        [shared] = filter(None, urls)
        assert shared.endswith(f"{first}.seed0/teacher/weights")


def shared(cells):
    """Groups of equal stages with more than one, as CELL/STAGE."""
    groups = ([tuple(stage.url.split("/")[-2:]) for stage in stages] for stages in EqualStages.of_cells(cells))
    return [["/".join(place) for place in group] for group in groups if len(group) > 1]


def test_stages_are_equal_where_all_that_decides_them_is(grid_file):
    _, cells = load_grid(grid_file(modes=["conventional", "decomposed"], seeds=[0]))
    assert shared(with_shared_teachers(cells)) == [
        [f"{width}.{fusion}.seed0/{mode}" for fusion in ("laf", "sum")]  # fusion is the decomposed student's alone
        for width in ("narrow", "wide")
        for mode in ("baseline", "conventional")
    ]


def test_what_is_only_evaluated_otherwise_is_trained_once(grid_file):
    suppression = {"gaussian": {}, "hard": {"evaluate": {"inference": {"nms": {"method": "hard"}}}}}
    _, cells = load_grid(grid_file(axes={"nms": suppression}, seeds=[0]))
    modes = ("baseline", "decomposed")  # the teacher is named
    assert shared(with_shared_teachers(cells)) == [[f"{nms}.seed0/{mode}" for nms in suppression] for mode in modes]


def test_students_of_two_teachers_or_two_starts_are_two(grid_file):
    teachers = {"slow": {"teacher": {"lr": 1.0e-4}}, "fast": {"teacher": {"lr": 1.0e-3}}}
    _, cells = load_grid(grid_file(axes={"teacher": teachers}, seeds=[0]))
    assert shared(with_shared_teachers(cells)) == [["slow.seed0/baseline", "fast.seed0/baseline"]]
    pretext = {name: {"pretrain": {"optim": {"epochs": epochs}}} for name, epochs in (("short", 1), ("long", 2))}
    _, cells = load_grid(grid_file(axes={"start": pretext}, seeds=[0]))
    assert shared(with_shared_teachers(cells)) == []  # the teacher, which starts from nothing, is named
    _, cells = load_grid(grid_file(settings={"pretrain": {}}, seeds=[0], axes={"fusion": GRID["axes"]["fusion"]}))
    assert shared(with_shared_teachers(cells)) == [
        [f"{f}.seed0/{m}" for f in ("laf", "sum")] for m in ("pretrain", "baseline")
    ]


def test_a_model_of_the_registry_may_be_another_by_the_next_cell(grid_file):
    start = {"model": {"backbone": {"name": "small3d", "weights": "models:/start@champion"}}}
    _, cells = load_grid(grid_file(settings=start, seeds=[0], axes={"fusion": GRID["axes"]["fusion"]}))
    assert shared(with_shared_teachers(cells)) == []


def test_a_grid_trains_in_later_cells_what_no_earlier_one_did(grid_file, trained, monkeypatch, capsys):
    axes = {"fusion": GRID["axes"]["fusion"]}
    grid, cells = load_grid(grid_file(axes=axes, modes=["conventional", "decomposed"], seeds=[0]))
    begun = []

    def run(job, console, stop, tags):
        for stage in map(with_contents, planned_stages(job)):
            if finished_stage(stage.url) is None:
                begun.append(f"{job.name}/{stage.mode}")
                finish(stage)
        return trained(job, console, stop, tags)

    monkeypatch.setattr(module, "run_job", run)
    module.run_grid(grid, cells, Console(), StopToken())
    assert begun == [f"laf.seed0/{mode}" for mode in ("teacher", "baseline", "conventional", "decomposed")] + [
        "sum.seed0/decomposed"
    ]
    assert "conventional the same as " in capsys.readouterr().out


def test_who_shares_a_teacher_keeps_what_it_says_where_its_own_would(grid_file):
    axes, cached = {"fusion": GRID["axes"]["fusion"]}, {"url": "said", "bytes": 1 << 20}
    _, cells = load_grid(grid_file(axes=axes, seeds=[0], settings={"teacher": {"lr": 1.0e-4, "cache": cached}}))
    own, shared = (cell.jobs["decomposed"].teacher for cell in with_shared_teachers(cells))
    assert (own.url, own.lr, own.cache.url) == (None, 1.0e-4, "said")
    assert shared.url.endswith("laf.seed0/teacher/weights")
    assert shared.lr is None and shared.cache == own.cache
