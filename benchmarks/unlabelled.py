"""What video without labels is worth: a tenth of the labels, and 0, 1 or 4 windows without beside each window with them.

    python -m benchmarks.unlabelled [JOB.yaml] [--labelled 24] [--others 0 1 4] [--seeds 0 1 2] [--set A.B=VALUE]

The job's built-in videos, of which the first `--labelled` keep their annotations: teacher, baseline and student are taught
them, as many steps each, one of these windows a step. The student sees the others as a job's source with
`labelled: false` and a `share`: distillation alone, in the motion branch. Trained by `benchmarks.local_training`; all
networks start from `--start`. Results go to `--out` as JSON lines, each as soon as it is there, and what is there already is
not trained again; at the end a table of average mAP (percent) on test and validation.
"""

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.distillation import MALLOC, SCORED, Task, prepare_data, read_start, with_delay
from benchmarks.local_training import Mixture, Subset, Teachers, average_map, predict, train_network
from tadscale.models.heads.objective import build_objective
from tadscale.runtime.jobs.job_file import load_job
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import settings_of


class Trial(NamedTuple):
    """The networks of one seed: a teacher, a baseline, and a student for each mixture."""

    job: JobConfig
    seed: int
    labelled: int
    others: tuple[int, ...]
    start: str
    scratch: Path
    out: Path


def main() -> None:
    """Train what is asked for, a seed a process; print the table."""
    options = arguments()
    labelled = [f"optim.epochs={options.steps // options.labelled}", "optim.global_batch=1", "cluster.workers=1"]
    job = with_delay(load_job(options.job, [*labelled, *options.set]), options.start)
    options.scratch.mkdir(parents=True, exist_ok=True)
    os.environ |= MALLOC
    options.out.parent.mkdir(parents=True, exist_ok=True)
    others, places = tuple(options.others), (options.start, options.scratch, options.out)
    trials = [Trial(job, seed, options.labelled, others, *places) for seed in options.seeds]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        task = _task(trials[0])
        if not task.data_path.exists():
            prepare_data(task, pool.imap)
        pool.map(run, trials, chunksize=1)
    sys.stdout.write(render(_rows(options.out)))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", default="jobs/distill.yaml")
    parser.add_argument("--labelled", type=int, default=24)
    parser.add_argument("--others", type=int, nargs="+", default=[0, 1, 4])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--start", default="jobs/sprites-start")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark/unlabelled.jsonl"))
    return parser.parse_args()


def run(trial: Trial) -> None:
    """Train and score one seed's networks that are not there yet."""
    torch.set_num_threads(1)
    data: dict[str, Subset] = torch.load(_task(trial).data_path, weights_only=False)  # made a moment ago
    learn, start, known = data[trial.job.data.train_subset], read_start(_task(trial)), Mixture(trial.labelled)
    done = {row["name"] for row in _rows(trial.out) if row["seed"] == trial.seed}
    teacher, _ = train_network(settings_of(trial.job, "teacher"), learn, "teacher", trial.seed, mixture=known)
    said = {name: predict(teacher, subset, "teacher") for name, subset in data.items()}
    if "baseline" not in done:
        baseline, _ = train_network(trial.job, learn, "baseline", trial.seed, start=start, mixture=known)
        seen = {name: predict(baseline, data[name], "baseline").predictions for name in SCORED}
        fuse = build_objective(trial.job.model.head, len(learn.manifest.classes)).fuse
        fused = {name: fuse([said[name].predictions, seen[name]]) for name in SCORED}
        heard = {name: said[name].predictions for name in SCORED}
        for name, found in {"teacher": heard, "two_stream": fused, "baseline": seen}.items():
            _keep(trial, name, baseline, data, found)
    for others in trial.others:
        if (name := f"decomposed, {others} beside") not in done:
            taught = Teachers(motion=said[trial.job.data.train_subset])
            mixture = known._replace(others=others)
            student, _ = train_network(trial.job, learn, "decomposed", trial.seed, taught, start, mixture)
            _keep(trial, name, student, data, {name: predict(student, data[name], "decomposed")[1] for name in SCORED})


def render(rows: list[dict[str, Any]]) -> str:
    """A line for each network: test / validation of every seed, and the means."""
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = sorted((row for row in rows if row["name"] == name), key=lambda row: row["seed"])
        mean = {subset: sum(row[subset] for row in own) / len(own) for subset in SCORED}
        each = ", ".join(f"{row['seed']}: {row['test']:.1f} / {row['validation']:.1f}" for row in own)
        lines.append(f"{name:24s} {mean['test']:5.1f} / {mean['validation']:5.1f}   ({each})\n")
    return "".join(lines)


def _task(trial: Trial) -> Task:
    return Task("unlabelled", "baseline", trial.seed, trial.job, trial.start, trial.scratch, "cpu")


def _keep(trial: Trial, name: str, model: Any, data: dict[str, Subset], found: dict[str, Any]) -> None:
    scores = {
        subset: round(average_map(trial.job, model, found[subset], data[subset], lambda label: label), 3)
        for subset in SCORED
    }
    with trial.out.open("a") as file:
        file.write(json.dumps({"name": name, "seed": trial.seed, **scores}) + "\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
