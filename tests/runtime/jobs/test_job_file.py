"""Job files: what is refused and how, overrides, references, and the files that come with the project."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from tadscale.config import Config
from tadscale.data.annotations import normal_subset
from tadscale.errors import UserError
from tadscale.runtime.grid.spec import file_schema, is_grid, load_grid
from tadscale.runtime.jobs.job_file import load_job
from tadscale.runtime.retrain.spec import is_retrain, load_retrain
from tadscale.runtime.stage.job import JobConfig

ROOT = Path(__file__).parents[3]
JOBS = sorted((ROOT / "jobs").rglob("*.yaml"))
RECIPES = [path for path in JOBS if path.parent.name in ("thumos14", "activitynet13")]
MINIMAL = "kind: teacher\nname: mine\nstorage: runs\ndata:\n  url: shards\n"


def load_any(path: Path) -> Config:
    """A job, a grid or a retraining, as `tadscale run` tells them apart."""
    if is_retrain(path):
        return load_retrain(path)[0]
    return load_grid(path)[0] if is_grid(path) else load_job(path)


@pytest.fixture
def job_file(tmp_path):
    """Writes a job file; returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(text)
        return path

    return write


def test_a_minimal_job_is_filled_with_defaults_and_frozen(job_file):
    job = load_job(job_file(MINIMAL))
    assert job.optim.lr > 0
    assert job.run_url == "runs/mine"
    with pytest.raises(ValueError, match="frozen"):
        job.seed = 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sede: 3", "sede: unknown key; did you mean `seed`?"),
        ("optim: {epoch: 3}", "optim.epoch: unknown key; did you mean `epochs`?"),
        (
            "student: {distill: {feature_wight: 2}}",
            "student.distill.feature_wight: unknown key; did you mean `feature_weight`?",
        ),
        ("  sprites: {trian: 2}", "data.sprites.trian: unknown key; did you mean `train`?"),
        ("zzzzzz: 1", "valid here: "),
        ("optim: {epochs: many}", "optim.epochs: Input should be a valid integer"),
        ("optim: {global_batch: 3}\ncluster: {workers: 2}", "not a multiple of cluster.workers"),
    ],
)
def test_faults_are_named_with_their_place_and_remedy(job_file, line, message):
    with pytest.raises(ValueError) as raised:
        load_job(job_file(MINIMAL + line))
    assert message in str(raised.value)


def test_all_faults_of_a_file_are_told_at_once(job_file):
    with pytest.raises(ValueError) as raised:
        load_job(job_file(MINIMAL + "sede: 3\noptim: {epoch: 3}\n"))
    assert "sede" in str(raised.value)
    assert "optim.epoch" in str(raised.value)


@pytest.mark.parametrize("text", ["", "- a list", "{unclosed"])
def test_what_is_no_mapping_is_refused(job_file, text):
    with pytest.raises(ValueError, match=r"job\.yaml"):
        load_job(job_file(text))


@pytest.mark.parametrize(("name", "what"), [("grid", "a grid of jobs"), ("retrain", "a retraining")])
def test_a_file_that_runs_other_jobs_is_none_and_says_which_is(name, what):
    with pytest.raises(UserError, match=rf"{name}.yaml is {what}.* give the one that it names, .*jobs/distill.yaml"):
        load_job(ROOT / f"jobs/{name}.yaml")


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"nowhere\.yaml: no such job file"):
        load_job("nowhere.yaml")


def test_overrides_reach_any_depth_and_keep_yaml_types(job_file):
    job = load_job(
        job_file(MINIMAL), ["optim.epochs=7", "data.window.fps=12.5", "baseline=false", "evaluate.tiou=[0.5]"]
    )
    assert (job.optim.epochs, job.data.window.fps, job.baseline, job.evaluate.tiou) == (7, 12.5, False, (0.5,))


@pytest.mark.parametrize("override", ["epochs", "=3", "name.inner=3"])
def test_a_malformed_override_is_refused(job_file, override):
    with pytest.raises(ValueError, match="--set"):
        load_job(job_file(MINIMAL), [override])


def test_references_are_resolved_from_the_environment(job_file, monkeypatch):
    monkeypatch.setenv("BUCKET", "s3://videos")
    monkeypatch.setenv("SEED", "11")
    text = MINIMAL.replace("runs", "${BUCKET}/runs").replace("shards", "${NOWHERE_SET:-local}/x") + "seed: ${SEED}\n"
    job = load_job(job_file(text))
    assert (job.storage, job.data.url, job.seed) == ("s3://videos/runs", "local/x", 11)


@pytest.mark.parametrize("text", ["20261126", "007", "1.50", "true", "null", "a", "2026-11-26"])
def test_text_of_the_environment_stays_text(job_file, monkeypatch, text):
    monkeypatch.setenv("RUN", text)
    assert load_job(job_file(MINIMAL.replace("mine", "${RUN}"))).name == text


@pytest.mark.parametrize("text", ["/data/set #2", "a: b", "[x]", "- y", "'q", "*a", "${RUN}"])
def test_paths_of_the_environment_arrive_whole(job_file, monkeypatch, text):
    monkeypatch.setenv("DATA", text)
    assert load_job(job_file(MINIMAL.replace("shards", "${DATA}"))).data.url == text


def test_a_number_where_a_text_belongs_says_quote_it(job_file):
    with pytest.raises(ValueError, match="name: 20261126 is not text; if it is meant as text, put it in quotes"):
        load_job(job_file(MINIMAL.replace("mine", "20261126")))


def test_a_key_that_stands_twice_is_named_with_its_lines(job_file):
    with pytest.raises(ValueError, match="the key `name` stands twice, in lines 2 and 6"):
        load_job(job_file(MINIMAL + "name: other\n"))


def test_the_home_folder_is_written_out_in_every_path(job_file, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHERE", "~/videos")
    text = (
        MINIMAL.replace("runs", "~/runs").replace("shards", "${WHERE}") + "teacher: {url: file://~/t}\nkind: distill\n"
    )
    job = load_job(job_file(text.replace("kind: teacher\n", "", 1)))
    assert (job.storage, job.data.url, job.teacher.url) == (
        f"{tmp_path}/runs", f"{tmp_path}/videos", f"file://{tmp_path}/t",
    )  # fmt: skip
    with pytest.raises(ValueError, match="no home folder of that name"):
        load_job(job_file(MINIMAL.replace("runs", "~nobody-is-called-so/runs")))


def test_a_reference_without_value_is_named_with_its_place(job_file):
    with pytest.raises(
        ValueError, match=r"data.url: \$\{NOWHERE_SET\} refers to an environment variable that is not set"
    ):
        load_job(job_file(MINIMAL.replace("shards", "${NOWHERE_SET}")))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_jobs_that_come_with_the_project_hold_and_can_be_executed(path):
    load_any(path)
    assert path.read_text().startswith("#!/usr/bin/env -S python -m tadscale run\n")
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_jobs_call_subsets_as_packing_writes_them(path):
    data = getattr(load_any(path), "data", None)
    names = [data.train_subset, data.test_subset, data.validation_subset] if data else []
    assert [normal_subset(name) for name in names] == names


def test_the_expected_jobs_are_there():
    assert {"distill.yaml", "teacher.yaml", "evaluate.yaml"} <= {path.name for path in JOBS}


def test_a_job_file_runs_as_a_program(job_file):
    """The shebang reaches `tadscale run`, which refuses the file for its misspelt key and exits with 1."""
    path = job_file("#!/usr/bin/env -S python -m tadscale run\n" + MINIMAL + "sede: 3\n")
    path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([str(path)], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60)
    assert done.returncode == 1
    assert "did you mean `seed`?" in done.stderr


def test_the_schema_accepts_the_jobs_documents_every_field_and_refuses_what_the_loader_refuses():
    schema = file_schema()
    for path in JOBS:
        tree = load_any(path).model_dump(mode="json")
        jsonschema.validate(tree, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tree | {"sede": 1}, schema)
    nodes = [schema, *schema["$defs"].values()]
    fields = [item for node in nodes for item in node.get("properties", {}).items()]
    silent = [name for name, field in fields if not field.get("description")]
    assert silent == []


def test_the_schema_command_prints_it():
    done = subprocess.run(
        [sys.executable, "-m", "tadscale", "schema"], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(file_schema()))


def test_validate_prints_a_job_that_loads_again(job_file):
    path = job_file(MINIMAL)
    done = subprocess.run(
        [sys.executable, "-m", "tadscale", "validate", str(path), "--set", "seed=5"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert JobConfig.model_validate(yaml.safe_load(done.stdout)).seed == 5


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_says_what_it_takes_and_what_is_known_of_its_score(path):
    header = path.read_text().partition("\nkind: ")[0]
    for word in ("# Data: ", "start", "# Needs: one GPU", "mAP at", "Ours: not run."):
        assert word.lower() in header.lower()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_any_recipes_head_reads_features(path):
    head = load_job(path).model.head
    job = load_job(path.parent / "features.yaml", [f"model.head={head.model_dump_json()}"])
    assert job.model.head == head
