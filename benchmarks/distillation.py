"""Teacher, baseline, conventional and decomposed student over several seeds, on the demo's data and settings.

    python -m benchmarks.distillation [JOB.yaml] [--seeds 0 1 2] [--modes teacher decomposed] [--set A.B=VALUE]

The job file's networks, losses, schedule, windows, motion and evaluation, trained by `LocalEngine` on windows that are
decoded once: no cluster, no object store, so that an ablation costs a third of what the jobs cost. Prints a table of average
mAP (percent) with mean and standard deviation over seeds, and one of the means when classes are merged by motion or by
appearance: what each detector knows. `--json FILE` keeps the figures. The data must be there: `tadscale data sprites` or a
run of the job draws them.
"""

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.plan import Plan
from tadscale.data.windows import Window, load_window, tile
from tadscale.engine.batch import WindowBatch
from tadscale.engine.ema import Ema
from tadscale.engine.engine import LocalEngine
from tadscale.engine.loop import Expected, train
from tadscale.engine.steps import Lesson, step_function
from tadscale.flow.motion import build_motion, window_motion
from tadscale.metrics.average_precision import evaluate_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.models.detector import Detector, DetectorOutput
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Targets, build_objective
from tadscale.network import Mode
from tadscale.runtime.jobs.job_file import load_job
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import DISTILLING, network_of
from tadscale.segments import Detection, Segment
from tadscale.serving.path import DetectionPath

BATCH = 4  # windows at a time at inference
MODES: list[Mode] = ["teacher", "decomposed", "conventional", "baseline"]
COLUMNS = ["teacher", "baseline", "conventional", "decomposed", "two_stream"]


class Subset:
    """The windows of one subset, decoded once: frames, ground truth, and the motion that the teacher sees."""

    def __init__(self, job: JobConfig, name: str) -> None:
        self.manifest: Manifest = read_manifest(job.data.url).subset(name)
        self.windows = tile(self.manifest, job.data.window)
        loaded = [self._load(job, index) for index in range(len(self.windows))]
        self.frames = torch.from_numpy(np.stack([window.frames for window in loaded]))  # [W, T, H, W, 3]
        self.mask = torch.from_numpy(np.stack([window.mask for window in loaded]))  # [W, T]
        most = max(len(window.labels) for window in loaded)
        self.segments, self.labels = torch.zeros(len(loaded), most, 2), torch.full((len(loaded), most), -1)
        for row, window in enumerate(loaded):
            self.segments[row, : len(window.labels)] = torch.from_numpy(window.segments_frames)
            self.labels[row, : len(window.labels)] = torch.from_numpy(window.labels)
        motion = build_motion(job.motion)
        valid = self.mask.sum(1).tolist()
        windows = [
            window_motion(motion, self.frames[row : row + 1], valid[row : row + 1]) for row in range(len(loaded))
        ]
        self.motion = torch.cat([made.half() for made in windows])  # [W, C, T, H, W]

    def _load(self, job: JobConfig, index: int) -> Window:
        table = self.windows
        row = self.manifest.row(int(table.video[index]))
        return load_window(row, int(table.start_frames[index]), int(table.valid_frames[index]), job.data.window)

    def input(self, mode: Mode, rows: slice) -> Tensor:
        """What a network of this mode reads of some windows."""
        return self.motion[rows].float() if mode == "teacher" else self.frames[rows]


def batches(data: Subset, plan: Plan, mode: Mode, teacher: DetectorOutput | None) -> Iterator[WindowBatch]:
    """The plan's global batches; an empty slot shows window 0 and is masked."""
    for step in range(plan.total_steps):
        ids = torch.from_numpy(plan.batch(step))
        rows = ids.clamp(min=0)
        yield WindowBatch(
            positions=torch.arange(step * plan.global_batch, (step + 1) * plan.global_batch),
            valid=ids >= 0,
            labelled=ids >= 0,
            mask=data.mask[rows],
            targets=Targets(segments_frames=data.segments[rows], labels=data.labels[rows]),
            frames=None if mode == "teacher" else data.frames[rows],
            motion_fields=data.motion[rows].float() if mode == "teacher" else None,
            teacher=teacher and _select(teacher, rows),
        )


def _select(output: DetectorOutput, rows: Tensor) -> DetectorOutput:
    return DetectorOutput(output.feature[rows], {name: value[rows] for name, value in output.predictions.items()})


def train_network(job: JobConfig, data: Subset, mode: Mode, seed: int, teacher: DetectorOutput | None) -> nn.Module:
    """Train one network as the job would, and put the averaged weights in."""
    torch.manual_seed(seed)
    network = network_of(job, mode, data.manifest.classes)
    plan = Plan(
        windows=data.windows,
        seed=seed,
        global_batch=job.optim.global_batch,
        epochs=job.optim.epochs,
        manifest_digest=data.manifest.digest,
        settings_digest=job.data.window.fingerprint(),
    )
    model = network.build(for_training=True)
    expected = Expected(
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
        global_batch=plan.global_batch,
        positions=lambda step: torch.arange(step * plan.global_batch, (step + 1) * plan.global_batch),
    )
    engine, ema = LocalEngine(model, job.optim), Ema(model, job.optim.ema_decay)
    objective = build_objective(job.model.head, len(network.classes))
    train(
        engine,
        step_function(mode, Lesson(objective=objective, student=job.student, global_batch=plan.global_batch)),
        batches(data, plan, mode, teacher),
        expected,
        job.optim,
        ema=ema,
    )
    model.load_state_dict(ema.tensors)
    return model.eval()


@torch.inference_mode()
def predict(model: nn.Module, data: Subset, mode: Mode) -> DetectorOutput:
    """Predictions on all windows of a subset, and a detector's feature (empty for a student)."""
    outputs: list[DetectorOutput] = []
    for first in range(0, len(data.windows), BATCH):
        rows = slice(first, first + BATCH)
        if isinstance(model, Detector):
            outputs.append(model(data.input(mode, rows), data.mask[rows]))
        else:
            found = model.detect(data.input(mode, rows), data.mask[rows])  # type: ignore[operator]
            outputs.append(DetectorOutput(torch.empty(0), found))
    return DetectorOutput(*tree_map(lambda *parts: torch.cat(parts).clone(), *map(tuple, outputs)))


MERGED: dict[str, Callable[[str], str]] = {
    "": lambda label: label,
    "motion": lambda label: label.split("/")[0],
    "appearance": lambda label: label.split("/")[-1],
    "any": lambda label: "action",
}
"""Ways to merge the labels of sprites, MOTION/APPEARANCE: each row of the table asks for that part of a label alone."""


def average_map(
    job: JobConfig, model: nn.Module, predictions: Predictions, data: Subset, rename: Callable[[str], str]
) -> float:
    """Average mAP in percent, by the evaluation of the jobs, with labels merged."""
    path = DetectionPath(job.data.window, job.evaluate.inference, data.manifest.classes)
    windows = path.read(model, predictions)
    detections: list[Detection] = []
    truth: dict[str, list[Segment]] = {}
    for video in range(len(data.manifest)):
        row = data.manifest.row(video)
        own = [(int(data.windows.start_frames[w]), windows[w]) for w in np.flatnonzero(data.windows.video == video)]
        merged = path.merge(own, video=row.key, duration_s=row.duration_s)
        detections += [dataclasses.replace(one, label=rename(one.label)) for one in merged]
        names = map(rename, row.labels)
        truth[row.key] = [Segment(*one) for one in zip(names, row.start_s, row.end_s, strict=True)]
    table, wanted = DetectionTable.from_detections(detections), GroundTruth.from_segments(truth)
    return 100 * evaluate_detections(table, wanted, job.evaluate.tiou, ties="stable").average


def run_mode(job: JobConfig, folder: Path, mode: Mode, seed: int) -> dict[str, float]:
    """Train and score one network; a teacher leaves what it says of every window for the students."""
    torch.set_num_threads(1)
    started = time.monotonic()
    learn, test = torch.load(folder / "data.pt", weights_only=False)  # a file of our own, made a moment ago
    taught = folder / f"teacher-{seed}.pt"
    teacher = _load_output(taught, "train") if mode in DISTILLING else None
    model = train_network(job, learn, mode, seed, teacher)
    found = predict(model, test, mode)
    outputs: dict[str, Predictions] = {mode: found.predictions}
    if mode == "teacher":
        torch.save({"train": tuple(predict(model, learn, mode)), "test": tuple(found)}, taught)
    if mode == "baseline":
        objective = build_objective(job.model.head, len(learn.manifest.classes))
        outputs["two_stream"] = objective.fuse([_load_output(taught, "test").predictions, found.predictions])
    scores = {
        f"{name} {merging}".strip(): average_map(job, model, output, test, rename)
        for name, output in outputs.items()
        for merging, rename in MERGED.items()
    }
    sys.stderr.write(f"seed {seed}: {scores} in {time.monotonic() - started:.0f} s\n")
    return scores


def _load_output(path: Path, subset: str) -> DetectorOutput:
    return DetectorOutput(*torch.load(path)[subset])


def main() -> None:
    """Train every mode for every seed, teachers first; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", default="jobs/distill.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--modes", nargs="+", choices=MODES[1:], default=MODES[1:], help="besides the teacher")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    job = load_job(options.job, options.set)
    if job.motion.flow_url is not None:
        parser.error("this benchmark computes motion itself: choose another motion.name than precomputed")
    torch.set_num_threads(1)
    scores: dict[int, dict[str, float]] = {seed: {} for seed in options.seeds}
    with tempfile.TemporaryDirectory() as scratch, multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        folder = Path(scratch)
        torch.save((Subset(job, job.data.train_subset), Subset(job, job.data.test_subset)), folder / "data.pt")
        for together in (MODES[:1], options.modes):
            tasks = [(job, folder, mode, seed) for mode in together for seed in options.seeds]
            for task, found in zip(tasks, pool.starmap(run_mode, tasks, chunksize=1), strict=True):
                scores[task[3]] |= found
    if options.json:
        options.json.write_text(json.dumps(scores, indent=1))
    sys.stdout.write(render(scores) + "\n" + render_merged(scores))


def trained(scores: dict[int, dict[str, float]]) -> list[str]:
    """The detectors that there are scores of, in the tables' order."""
    return [name for name in COLUMNS if all(name in row for row in scores.values())]


def render(scores: dict[int, dict[str, float]]) -> str:
    """A Markdown table: a row a seed, then mean and standard deviation."""
    columns = trained(scores)
    lines = ["| seed | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for seed, row in scores.items():
        lines.append(f"| {seed} | " + " | ".join(f"{row[name]:.1f}" for name in columns) + " |")
    values = {name: [row[name] for row in scores.values()] for name in columns}
    lines.append("| mean | " + " | ".join(f"{statistics.mean(values[name]):.1f}" for name in columns) + " |")
    if len(scores) > 1:
        lines.append("| sd | " + " | ".join(f"{statistics.stdev(values[name]):.1f}" for name in columns) + " |")
    return "\n".join(lines) + "\n"


def render_merged(scores: dict[int, dict[str, float]]) -> str:
    """A Markdown table of means over seeds: a row a way to merge labels."""
    columns = trained(scores)
    lines = ["| labels merged by | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for merging in MERGED:
        means = [statistics.mean(row[f"{name} {merging}".strip()] for row in scores.values()) for name in columns]
        lines.append(f"| {merging or 'nothing'} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
