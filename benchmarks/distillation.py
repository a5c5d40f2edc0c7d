"""Teacher, baseline, conventional and decomposed student over several seeds, on the demo's data and settings.

    python -m benchmarks.distillation [JOB.yaml] [--seeds 0 1 2] [--modes teacher decomposed] [--set A.B=VALUE]

The job file's networks, losses, schedule, windows, motion and evaluation, trained by `LocalEngine` on windows that are
decoded once: no cluster, no object store, so that an ablation costs a third of what the jobs cost. Prints a table of average
mAP (percent) with mean and standard deviation over seeds, and one of the means when classes are merged by motion or by
appearance: what each detector knows. `--json FILE` keeps the figures. The data must be there: `tadscale data sprites` or a
run of the job draws them.
"""

import argparse
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

from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.plan import Plan
from tadscale.data.windows import Window, load_window, tile
from tadscale.engine.batch import WindowBatch
from tadscale.engine.ema import Ema
from tadscale.engine.engine import LocalEngine
from tadscale.engine.loop import Expected, train
from tadscale.engine.steps import STEPS, Mode
from tadscale.flow.motion import build_motion, window_motion
from tadscale.metrics.average_precision import evaluate_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.models.detector import Detector, rgb_input
from tadscale.models.heads.base import Head, Predictions, Targets
from tadscale.models.student import Student
from tadscale.runtime.stage.job import JobConfig, load_job
from tadscale.segments import Detection, Segment
from tadscale.serving.inference import merge_windows

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
        return self.motion[rows].float() if mode == "teacher" else rgb_input(self.frames[rows])


def batches(data: Subset, plan: Plan, mode: Mode, teacher: Predictions) -> Iterator[WindowBatch]:
    """The plan's global batches; an empty slot shows window 0 and is masked."""
    for step in range(plan.total_steps):
        ids = torch.from_numpy(plan.batch(step))
        rows = ids.clamp(min=0)
        yield WindowBatch(
            positions=torch.arange(step * plan.global_batch, (step + 1) * plan.global_batch),
            valid=ids >= 0,
            mask=data.mask[rows],
            targets=Targets(segments_frames=data.segments[rows], labels=data.labels[rows]),
            frames=None if mode == "teacher" else data.frames[rows],
            motion=data.motion[rows].float() if mode == "teacher" else None,
            teacher={name: value[rows] for name, value in teacher.items()},
        )


def train_network(job: JobConfig, data: Subset, mode: Mode, seed: int, teacher: Predictions) -> nn.Module:
    """Train one network as the job would, and put the averaged weights in."""
    torch.manual_seed(seed)
    classes = len(data.manifest.classes)
    plan = Plan(
        windows=data.windows,
        seed=seed,
        global_batch=job.optim.global_batch,
        epochs=job.optim.epochs,
        manifest_digest=data.manifest.digest,
        settings_digest=job.data.window.fingerprint(),
    )
    channels = build_motion(job.motion).channels if mode == "teacher" else 3
    model: nn.Module = (
        Student(job.model, num_classes=classes)
        if mode == "decomposed"
        else Detector(job.model, in_channels=channels, num_classes=classes)
    )
    expected = Expected(
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
        global_batch=plan.global_batch,
        positions=lambda step: torch.arange(step * plan.global_batch, (step + 1) * plan.global_batch),
    )
    engine, ema = LocalEngine(model, job.optim), Ema(model, job.optim.ema_decay)
    step_function, settings = STEPS[mode], job.student.distill
    train(
        engine,
        lambda network, batch: step_function(network, batch, settings),
        batches(data, plan, mode, teacher),
        expected,
        job.optim,
        ema=ema,
    )
    model.load_state_dict(ema.tensors)
    return model.eval()


@torch.inference_mode()
def predict(model: nn.Module, data: Subset, mode: Mode) -> Predictions:
    """Predictions on all windows of a subset; a detector's feature beside them."""
    found: list[Predictions] = []
    for first in range(0, len(data.windows), BATCH):
        rows = slice(first, first + BATCH)
        if isinstance(model, Detector):
            output = model(data.input(mode, rows), data.mask[rows])
            found.append({"feature": output.feature, **output.predictions})
        else:
            found.append(model.detect(data.input(mode, rows), data.mask[rows]))  # type: ignore[operator]
    return {name: torch.cat([one[name] for one in found]).clone() for name in found[0]}


MERGED: dict[str, Callable[[str], str]] = {
    "": lambda label: label,
    "motion": lambda label: label.split("/")[0],
    "appearance": lambda label: label.split("/")[-1],
    "any": lambda label: "action",
}
"""Ways to merge the labels of sprites, MOTION/APPEARANCE: each row of the table asks for that part of a label alone."""


def average_map(
    job: JobConfig, head: Head, predictions: Predictions, data: Subset, rename: Callable[[str], str]
) -> float:
    """Average mAP in percent, by the evaluation of the jobs, with labels merged."""
    inference = job.evaluate.inference
    windows = head.decode(predictions, top_k=inference.window_top_k, min_score=inference.nms.min_score)
    detections: list[Detection] = []
    truth: dict[str, list[Segment]] = {}
    for video in range(len(data.manifest)):
        row = data.manifest.row(video)
        own = [(int(data.windows.start_frames[w]), windows[w]) for w in np.flatnonzero(data.windows.video == video)]
        merged = merge_windows(own, fps=job.data.window.fps, duration_s=row.duration_s, nms=inference.nms)
        for (start_s, end_s), score, label in zip(merged.segments_s, merged.scores, merged.labels, strict=True):
            name = rename(data.manifest.classes[label])
            detections.append(Detection(video=row.key, label=name, start_s=start_s, end_s=end_s, score=score))
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
    teacher = torch.load(taught)["train"] if mode in ("conventional", "decomposed") else {}
    model = train_network(job, learn, mode, seed, teacher)
    found = predict(model, test, mode)
    head: Head = model.get_submodule("head")  # type: ignore[assignment]
    outputs: dict[str, Predictions] = {mode: found}
    if mode == "teacher":
        torch.save({"train": predict(model, learn, mode), "test": found}, taught)
    if mode == "baseline":
        outputs["two_stream"] = head.fuse([torch.load(taught)["test"], found])
    scores = {
        f"{name} {merging}".strip(): average_map(job, head, output, test, rename)
        for name, output in outputs.items()
        for merging, rename in MERGED.items()
    }
    sys.stderr.write(f"seed {seed}: {scores} in {time.monotonic() - started:.0f} s\n")
    return scores


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
