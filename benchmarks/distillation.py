"""Teacher, baseline, conventional and decomposed student over several seeds, starts and settings, on a job's data.

    python -m benchmarks.distillation [JOB.yaml] [--seeds 0 1 2] [--start pretext] [--set A.B=VALUE] [--variants FILE ...]

Trains by `benchmarks.local_training`: the job's settings on windows that are decoded once. Prints the average mAP (percent)
of every detector with mean and standard deviation over seeds, on the test subset and on validation; then the means on test
when classes are merged by motion or by appearance: what each detector knows. Built-in data are drawn where they are missing.

A file of variants is a list of `{name, mode, set: [A.B=VALUE, ...], start}`: one network each, for every seed. What variants
need and share (data, teachers, starts) is made once and kept under `--scratch`; teachers are networks there, which
`teacher.url` of other variants may name. Results go to `--out` as JSON lines, each as
soon as it is there; what is there already is not trained again.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import nn

from benchmarks.local_training import (
    Start,
    Subset,
    Teachers,
    appearance_start,
    average_map,
    predict,
    pretext_start,
    train_network,
)
from tadscale.data.manifest import MANIFEST_NAME
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SUBSETS as SPRITE_SUBSETS
from tadscale.data.sprites import class_names, draw_video
from tadscale.engine.optim import without_start
from tadscale.engine.start import is_published, load_start
from tadscale.engine.steps import delayed
from tadscale.flow.motion import build_motion
from tadscale.models.backbones.base import BACKBONE
from tadscale.models.detector import DetectorOutput
from tadscale.models.heads.objective import build_objective
from tadscale.network import Mode, load_network, save_network, spec_digest
from tadscale.runtime.cluster.capacity import ENVIRONMENT
from tadscale.runtime.jobs.job_file import load_job
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import DISTILLING, network_of, settings_of

MALLOC = {name: value for name, value in ENVIRONMENT.items() if name.startswith("MALLOC_")}
"""Half of the time of a step went into page faults without it (two AMD EPYC cores without AVX-512)."""
MADE = ("pretext", "appearance")
SCORED = ("validation", "test")
MERGED: dict[str, Callable[[str], str]] = {
    "": lambda label: label,
    "motion": lambda label: label.split("/")[0],
    "appearance": lambda label: label.split("/")[-1],
    "any": lambda label: "action",
}
"""Ways to merge the labels of sprites, MOTION/APPEARANCE: each asks for that part of a label alone."""


class Task(NamedTuple):
    """One network to train."""

    name: str
    """Of its variant, the same for all seeds."""
    mode: Mode
    seed: int
    job: JobConfig
    start: str
    """Of RGB backbones: `none`, `pretext` or `appearance`, which are made here, or the folder or file of another."""
    scratch: Path
    device: str

    @property
    def data_path(self) -> Path:
        """Decoded windows of all subsets."""
        data = self.job.data.model_dump(
            exclude={"validation_subset", "cache"}
        )  # the scored subsets have fixed names here
        return self._kept("data", data, self.job.motion.model_dump())

    @property
    def teacher_path(self) -> Path:
        """What the teacher of this data and seed says of every window, or a named teacher."""
        named = self.job.teacher.url
        if named is not None:
            return self._kept("teacher", str(self.data_path), named, spec_digest(named))
        network = network_of(self.job, "teacher", ()).model_dump(exclude={"inference"})
        started = is_published(self.start)
        optim = settings_of(self.job, "teacher").optim
        optim = optim if started else without_start(optim)
        begin = (self.start,) if started else ()
        return self._kept("teacher", str(self.data_path), network, optim.model_dump(), self.seed, *begin)

    @property
    def teacher_url(self) -> str:
        """The teacher's network: the named one, or what was trained here."""
        return self.job.teacher.url or str(self.teacher_path.with_suffix(""))

    @property
    def baseline_url(self) -> str:
        """The baseline's network, where it teaches."""
        return str(self.baseline_path.with_suffix(""))

    @property
    def appearance_path(self) -> Path:
        """What the appearance teacher says of every window: the baseline of this data and seed, or a named network."""
        wanted = self.job.student.appearance_teacher
        if wanted is not None and wanted.url is not None:
            return self._kept("appearance", str(self.data_path), wanted.url, spec_digest(wanted.url))
        return self.baseline_path

    @property
    def baseline_path(self) -> Path:
        """What the baseline says of every window, where it teaches."""
        network = network_of(self.job, "baseline", ()).model_dump(exclude={"inference"})
        optim = self.job.optim if self.needs_start else without_start(self.job.optim)
        return self._kept("baseline", str(self.data_path), network, optim.model_dump(), self.seed, str(self.start_path))

    @property
    def needs_appearance(self) -> bool:
        """Whether an appearance teacher teaches it."""
        return self.mode == "decomposed" and self.job.student.appearance_teacher is not None

    @property
    def start_path(self) -> Path:
        """The backbone's start, the same for all seeds of the networks: a folder that `model.backbone.weights` may name."""
        if self.start not in MADE:
            return Path(self.start)
        pretrain = self.job.pretrain and self.job.pretrain.model_dump()
        backbone = self.job.model.backbone.model_dump()
        return self._kept("start", str(self.data_path), backbone, self.start, pretrain).with_suffix("")

    @property
    def needs_start(self) -> bool:
        """Whether its backbone starts from anything: on motion, from published weights alone, as in jobs."""
        return self.start != "none" and (self.mode != "teacher" or is_published(self.start))

    def _kept(self, what: str, *facts: Any) -> Path:
        return self.scratch / f"{what}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}.pt"


def main() -> None:
    """Train what is asked for, what it needs first; print the tables."""
    options = arguments()
    tasks = list(read_tasks(options))
    os.environ |= MALLOC
    for folder in (options.scratch, options.out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    done = {(row["name"], row["seed"]) for row in rows_of(options.out)}
    tasks = [task for task in tasks if (task.name, task.seed) not in done]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for task in _each_once(tasks, lambda task: task.data_path):
            prepare_data(task, pool.imap)
        started = [task for task in tasks if task.needs_start]
        making = [
            pool.map_async(prepare_start, _each_once(started, lambda task: task.start_path), chunksize=1),
            pool.map_async(prepare_teacher, _each_once(tasks, lambda task: task.teacher_path), chunksize=1),
        ]
        for made in making:
            made.get()
        taught = [task for task in tasks if task.needs_appearance]
        pool.map(prepare_appearance, _each_once(taught, lambda task: task.appearance_path), chunksize=1)
        for rows in pool.imap_unordered(run, tasks, chunksize=1):
            with options.out.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    sys.stdout.write(render(rows_of(options.out)))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", default="jobs/distill.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--modes", nargs="+", default=["teacher", "baseline", "conventional", "decomposed"])
    parser.add_argument("--start", default="none", metavar="none|pretext|appearance|FOLDER|FILE")
    parser.add_argument("--variants", type=Path, nargs="+")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark/results.jsonl"))
    return parser.parse_args()


def read_tasks(options: argparse.Namespace) -> Iterable[Task]:
    """Every variant for every seed."""
    variants: list[dict[str, Any]] = [{"name": mode, "mode": mode} for mode in options.modes]
    if options.variants:
        variants = [variant for path in options.variants for variant in yaml.safe_load(path.read_text())]
    for variant in variants:
        job = load_job(options.job, [*options.set, *variant.get("set", ())])
        start = variant.get("start", options.start)
        job = with_delay(job, start)
        for seed in variant.get("seeds", options.seeds):
            yield Task(variant["name"], variant["mode"], seed, job, start, options.scratch, options.device)


def with_delay(job: JobConfig, start: str) -> JobConfig:
    """The job with the delay that it has with this start, if it does not say one."""
    knows_motion = start not in ("none", "appearance") and not is_published(start)
    return job.model_copy(update={"student": delayed(job.student, knows_motion=knows_motion)})


def _each_once(tasks: Iterable[Task], path: Callable[[Task], Path]) -> list[Task]:
    """One task for each path that is not there yet."""
    return list({path(task): task for task in tasks if not path(task).exists()}.values())


def prepare_data(task: Task, each: Callable[..., Iterable[Any]]) -> None:
    """Draw built-in data that are missing, and decode all windows, in the processes of a pool."""
    sprites, url = task.job.data.sprites, Path(task.job.data.url)
    if sprites is not None and not (url / MANIFEST_NAME).exists():
        wanted = [(sprites, subset, index) for subset in SPRITE_SUBSETS for index in range(getattr(sprites, subset))]
        write_shards(each(_draw, wanted), str(url), classes=class_names(sprites))
    names = (task.job.data.train_subset, *SCORED)
    torch.save({name: Subset(task.job, name, each, task.device) for name in names}, task.data_path)


def _draw(what: tuple[Any, str, int]) -> Any:
    return draw_video(*what)


@lru_cache(maxsize=1)
def _data(path: Path, device: str) -> dict[str, Subset]:
    torch.set_num_threads(1)
    loaded: dict[str, Subset] = torch.load(path, weights_only=False)  # a file of our own, made a moment ago
    return {name: subset.to(device) for name, subset in loaded.items()}


def prepare_start(task: Task) -> None:
    """The backbone's start of a task, by its own seed 0."""
    learn = _data(task.data_path, task.device)[task.job.data.train_subset]
    if task.start == "pretext":
        start, log = pretext_start(task.job, learn, seed=0)
        last = {name: round(value, 3) for name, value in log[-1].items() if "unexplained" in name}
        sys.stderr.write(f"{task.start_path.name}: {last} after {len(log)} steps\n")
    else:
        start = appearance_start(task.job, learn, seed=0)
    described = network_of(task.job, "pretrain", learn.manifest.classes)
    save_network(str(task.start_path), described, {f"{BACKBONE}{name}": value for name, value in start.items()})


def prepare_teacher(task: Task) -> None:
    """A teacher, trained or named, and what it says of every window."""
    if task.job.teacher.url is None:
        start = read_start(task._replace(mode="teacher")) if is_published(task.start) else None
        _train_kept(task, settings_of(task.job, "teacher"), "teacher", start, task.teacher_url)
    _keep_said(task, task.teacher_url, "teacher", task.teacher_path)


def _train_kept(task: Task, job: JobConfig, mode: Mode, start: Start | None, url: str) -> None:
    learn = _data(task.data_path, task.device)[job.data.train_subset]
    model, _ = train_network(job, learn, mode, task.seed, start=start)
    network = network_of(job, mode, learn.manifest.classes)
    if mode == "teacher":  # so that a job may name it, too
        network = network.model_copy(update={"motion_fingerprint": motion_fingerprint(job.motion)})
    save_network(url, network, model.state_dict())


def _keep_said(task: Task, url: str, mode: Mode, path: Path) -> None:
    model = load_network(url)[0].to(task.device)
    data = _data(task.data_path, task.device)
    torch.save({name: tuple(predict(model, subset, mode)) for name, subset in data.items()}, path)


def prepare_appearance(task: Task) -> None:
    """An appearance teacher, and what it says of every window: the job's own baseline, or a named network."""
    named = task.job.student.appearance_teacher
    url = named.url if named is not None else None
    if url is None:
        url = task.baseline_url
        _train_kept(task, task.job, "baseline", read_start(task) if task.needs_start else None, url)
    _keep_said(task, url, "baseline", task.appearance_path)


def read_said(path: Path) -> dict[str, DetectorOutput]:
    """What a frozen teacher says of the windows of each subset."""
    return {name: DetectorOutput(*output) for name, output in torch.load(path).items()}


def read_start(task: Task) -> Start:
    """The tensors that a backbone starts from."""
    channels = build_motion(task.job.motion).channels if task.mode == "teacher" else 3
    backbone = task.job.model.backbone.build(channels)
    load_start(backbone, str(task.start_path))
    return backbone.state_dict()


def run(task: Task) -> list[dict[str, Any]]:
    """Train and score one network; a baseline is scored fused with the teacher, too. One row a detector."""
    began, data = time.monotonic(), _data(task.data_path, task.device)
    said = read_said(task.teacher_path)
    start = read_start(task) if task.needs_start else None
    train_subset = task.job.data.train_subset
    teachers = Teachers(
        motion=said[train_subset] if task.mode in DISTILLING else None,
        appearance=read_said(task.appearance_path)[train_subset] if task.needs_appearance else None,
    )
    learn = data[train_subset]
    log: list[dict[str, float]] = []
    trained = {"teacher": task.teacher_url, "baseline": task.baseline_url}.get(task.mode)
    if trained is not None and (task.mode == "teacher" or task.baseline_path.exists()):  # a baseline that teaches, too
        model: nn.Module = load_network(trained)[0].to(task.device)
    else:
        model, log = train_network(task.job, learn, task.mode, task.seed, teachers, start)
    found = {name: predict(model, data[name], task.mode).predictions for name in SCORED}
    outputs = {task.name: found}
    if task.mode == "baseline":
        fuse = build_objective(task.job.model.head, len(learn.manifest.classes)).fuse
        outputs[f"two_stream{task.name.removeprefix('baseline')}"] = {
            name: fuse([said[name].predictions, found[name]]) for name in SCORED
        }
    rows = []
    for name, output in outputs.items():
        scores = {
            f"{subset} {merging}".strip(): round(average_map(task.job, model, output[subset], data[subset], rename), 3)
            for subset in SCORED
            for merging, rename in MERGED.items()
        }
        rows.append({"name": name, "seed": task.seed, **scores, "seconds": round(time.monotonic() - began)})
    rows[0]["split"] = [
        {"step": step, **{name: round(value, 5) for name, value in parts.items() if name.startswith("split")}}
        for step, parts in enumerate(log)
        if "split_truth" in parts and step % 10 == 0
    ]
    sys.stderr.write(
        "".join(f"{row['name']} seed {row['seed']}: test {row['test']} in {row['seconds']} s\n" for row in rows)
    )
    return rows


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def render(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: a row a detector; test for each seed, mean and deviation, validation's mean, and what it knows."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "| detector | " + " | ".join(f"seed {seed}" for seed in seeds) + " | test | validation | motion | appearance |"
    ]
    lines.append("|---" * (len(seeds) + 5) + "|")
    for name in dict.fromkeys(row["name"] for row in rows):
        own = {row["seed"]: row for row in rows if row["name"] == name}
        cells = [f"{own[seed]['test']:.1f}" if seed in own else "" for seed in seeds]
        values = [row["test"] for row in own.values()]
        deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.1f}{deviation}")
        known = ("validation", "test motion", "test appearance")
        cells += [f"{statistics.mean(row[column] for row in own.values()):.1f}" for column in known]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
