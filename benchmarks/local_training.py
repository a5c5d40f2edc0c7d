"""A job's networks trained and scored on one process, on windows that are decoded once: no cluster, no object store.

The job file's networks, losses, schedule, windows, motion and evaluation, by `LocalEngine`: an ablation costs a third of
what jobs cost, and much less on a GPU that holds all windows. Library of `benchmarks.distillation`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tadscale.data.flow_windows import load_flow
from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.plan import Plan
from tadscale.data.windows import Window, WindowTable, load_window, tile
from tadscale.engine.batch import WindowBatch
from tadscale.engine.ema import Ema
from tadscale.engine.engine import LocalEngine
from tadscale.engine.loop import Expected, train
from tadscale.engine.optim import OptimConfig, without_start
from tadscale.engine.pretrain import PretrainConfig, measure_scale, pretrain_step
from tadscale.engine.steps import Lesson, StepFunction, step_function
from tadscale.flow.motion import build_motion, window_motion
from tadscale.metrics.average_precision import evaluate_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.models.backbones.base import Backbone
from tadscale.models.detector import Detector, DetectorOutput
from tadscale.models.heads.base import Predictions
from tadscale.models.heads.objective import Targets, build_objective
from tadscale.network import Mode
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import network_of
from tadscale.segments import Detection, Segment
from tadscale.serving.path import DetectionPath

BATCH = 4  # windows at a time at inference
COLUMNS = [field.name for field in dataclasses.fields(WindowTable)]
Start = dict[str, Tensor]
"""A backbone's tensors."""


class Subset:
    """The windows of one subset, decoded once: frames, ground truth, and the motion that the teacher sees.

    Args:
        job: windows, motion, data.
        name: of the subset.
        each: `map`, or that of a pool of processes.
        device: where motion is computed: by `each` on the CPU, here on any other.
    """

    def __init__(
        self, job: JobConfig, name: str, each: Callable[..., Iterable[Any]] = map, device: str = "cpu"
    ) -> None:
        self.manifest: Manifest = read_manifest(job.data.url).subset(name)
        self.windows = tile(self.manifest, job.data.window)
        found = list(each(partial(_load_window, job, self.manifest, self.windows), range(len(self.windows))))
        loaded: list[Window] = [window for window, _ in found]
        self.frames = torch.from_numpy(np.stack([window.frames for window in loaded]))  # [W, T, H, W, 3]
        self.mask = torch.from_numpy(np.stack([window.mask for window in loaded]))  # [W, T]
        most = max(1, *(len(window.labels) for window in loaded))
        self.segments, self.labels = torch.zeros(len(loaded), most, 2), torch.full((len(loaded), most), -1)
        for row, window in enumerate(loaded):
            self.segments[row, : len(window.labels)] = torch.from_numpy(window.segments_frames)
            self.labels[row, : len(window.labels)] = torch.from_numpy(window.labels)
        parts = [found[first : first + BATCH] for first in range(0, len(found), BATCH)]
        fields = (each if device == "cpu" else map)(partial(_fields, job, device), parts)
        self.motion = torch.from_numpy(np.concatenate(list(fields)))  # [W, C, T, H, W]

    def to(self, device: str) -> "Subset":
        """The same subset, its tensors on a device."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def input(self, mode: Mode, rows: slice) -> Tensor:
        """What a network of this mode reads of some windows."""
        return self.motion[rows].float() if mode == "teacher" else self.frames[rows]


def _load_window(job: JobConfig, manifest: Manifest, table: WindowTable, index: int) -> tuple[Window, NDArray[Any]]:
    """A window, and what its motion is made of: its frames, or what lies in shards."""
    row = manifest.row(int(table.video[index]))
    cut = int(table.start_frames[index]), int(table.valid_frames[index]), job.data.window
    window, stored = load_window(row, *cut), job.motion.flow_url
    return window, window.frames if stored is None else load_flow(stored, row.key, *cut)


def _fields(job: JobConfig, device: str, windows: list[tuple[Window, NDArray[Any]]]) -> NDArray[np.float16]:
    """Motion `[W, C, T, H, W]` of some windows (of features `[W, T, C]`)."""
    torch.set_num_threads(1)
    sources = torch.from_numpy(np.stack([source for _, source in windows])).to(device)
    fields = window_motion(build_motion(job.motion), sources, [int(window.mask.sum()) for window, _ in windows])
    return fields.half().cpu().numpy()


class Teachers(NamedTuple):
    """What frozen teachers say of every window of a subset."""

    motion: DetectorOutput | None = None
    appearance: DetectorOutput | None = None


NONE = Teachers()


class Mixture(NamedTuple):
    """A subset of which the first windows alone have ground truth; students see the others beside them."""

    labelled: int
    """Windows with ground truth: each comes once an epoch."""
    others: int = 0
    """Windows without it in a global batch, for each with it."""

    def plan_of(self, windows: WindowTable, global_batch: int) -> dict[str, Any]:
        """Windows, shares and global batch of a plan with so many labelled windows a step."""
        known = np.arange(len(windows)) < self.labelled
        if not self.others:
            columns = {name: getattr(windows, name)[known] for name in COLUMNS}
            return {"windows": WindowTable(**columns), "global_batch": global_batch}
        return {
            "windows": dataclasses.replace(windows, labelled=known, source=1 - known.astype(np.int8)),
            "global_batch": global_batch * (1 + self.others),
            "shares": (None, self.others / (1 + self.others)),
        }


def batches(data: Subset, plan: Plan, mode: Mode, teachers: Teachers) -> Iterator[WindowBatch]:
    """The plan's global batches; an empty slot shows window 0 and is masked."""
    for step in range(plan.total_steps):
        ids = torch.from_numpy(plan.batch(step)).to(data.mask.device)
        rows = ids.clamp(min=0)
        yield WindowBatch(
            positions=torch.arange(step * plan.global_batch, (step + 1) * plan.global_batch),
            valid=ids >= 0,
            labelled=torch.from_numpy(plan.windows.labelled).to(rows.device)[rows],
            mask=data.mask[rows],
            targets=Targets(segments_frames=data.segments[rows], labels=data.labels[rows]),
            frames=None if mode == "teacher" else data.frames[rows],
            motion_fields=data.motion[rows].float() if mode in ("teacher", "pretrain") else None,
            teacher=teachers.motion and _select(teachers.motion, rows),
            appearance_teacher=teachers.appearance and _select(teachers.appearance, rows),
        )


def train_network(
    job: JobConfig,
    data: Subset,
    mode: Mode,
    seed: int,
    teachers: Teachers = NONE,
    start: Start | None = None,
    mixture: Mixture | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train one network as the job would, and put the averaged weights in.

    Args:
        job: its settings, `backbone_delay` among them for students.
        data: what it is trained on.
        mode: which network.
        seed: of weights and order.
        teachers: what a student learns from.
        start: of its backbone.
        mixture: which windows have ground truth; all of them where it is None.

    Returns:
        The network in eval mode, and each step's loss parts.
    """
    torch.manual_seed(seed)
    network = network_of(job, mode, data.manifest.classes)
    model = network.build(for_training=True)
    if start is not None:
        model.get_submodule("backbone").load_state_dict(start)
    objective = build_objective(job.model.head, len(network.classes))
    optim = job.optim if start is not None else without_start(job.optim)
    plan = _plan(data, optim, seed, mixture or Mixture(len(data.windows)))
    lesson = Lesson(
        objective=objective,
        student=job.student,
        global_batch=plan.global_batch,
        labelled_share=plan.labelled_share,
        total_steps=plan.total_steps,
    )
    log = _train(model.to(data.mask.device), step_function(mode, lesson), optim, data, mode, plan, teachers)
    return model.eval(), log


def pretext_start(job: JobConfig, data: Subset, seed: int) -> tuple[Start, list[dict[str, float]]]:
    """The backbone's start as the job's first stage would make it, and each step's loss parts."""
    settings = job.pretrain or PretrainConfig()
    clips = _cut_clips(data, settings.frames)
    torch.manual_seed(seed)
    model = network_of(job, "pretrain", data.manifest.classes).build(for_training=True).to(data.mask.device)
    backbone = cast(Backbone, model.get_submodule("backbone"))
    with torch.no_grad():
        steps, rows, columns = backbone.maps(backbone.normalise(clips.frames[:1])).shape[2:]
    scale = measure_scale(clips.frames[:32], clips.motion[:32], (steps, rows, columns))
    plan = _plan(clips, settings.optim, seed, Mixture(len(clips.windows)))
    log = _train(model, partial(pretrain_step, settings, scale), settings.optim, clips, "pretrain", plan, NONE)
    return {name: value.clone() for name, value in backbone.state_dict().items()}, log


def appearance_start(job: JobConfig, data: Subset, seed: int, frames: int = 16, steps: int = 1000) -> Start:
    """A start that knows appearance and hardly motion, as a network trained to classify does: the paper's regime.

    A classifier of the appearance part of the label that a clip of `frames` frames shows, on clips inside segments.
    """
    torch.manual_seed(seed)
    device = data.mask.device
    names = sorted({label.split("/")[-1] for label in data.manifest.classes})
    part = torch.tensor([names.index(label.split("/")[-1]) for label in data.manifest.classes], device=device)
    backbone = job.model.backbone.build(3).to(device)
    reader = nn.Linear(backbone.out_channels, len(names)).to(device)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *reader.parameters()], 2e-3, weight_decay=0.05)
    rows, places = torch.nonzero(data.labels >= 0, as_tuple=True)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(0, len(rows), (16,), generator=draw).to(device)
        window, place = rows[chosen], places[chosen]
        middle = data.segments[window, place].mean(dim=1).long()  # [16]
        first = (middle - frames // 2).clamp(0, data.frames.shape[1] - frames)
        clips = data.frames[window[:, None], first[:, None] + torch.arange(frames, device=device)]
        logits = reader(backbone(backbone.normalise(clips)).mean(dim=2))
        nn.functional.cross_entropy(logits, part[data.labels[window, place]]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.clone() for name, value in backbone.state_dict().items()}


def _plan(data: Subset, config: OptimConfig, seed: int, mixture: Mixture) -> Plan:
    return Plan(
        seed=seed,
        epochs=config.epochs,
        manifest_digest=data.manifest.digest,
        settings_digest="",
        **mixture.plan_of(data.windows, config.global_batch),
    )


def _train(
    model: nn.Module,
    step: StepFunction,
    config: OptimConfig,
    data: Subset,
    mode: Mode,
    plan: Plan,
    teachers: Teachers,
) -> list[dict[str, float]]:
    expected = Expected(
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
        global_batch=plan.global_batch,
        positions=lambda step: torch.arange(step * plan.global_batch, (step + 1) * plan.global_batch),
    )
    log: list[dict[str, float]] = []

    class Keep:
        def after_step(self, record, state) -> bool:  # type: ignore[no-untyped-def]
            log.append(record.losses | {"grad_norm": record.grad_norm})
            return False

    ema = Ema(model, config.ema_decay)
    train(
        LocalEngine(model, config),
        step,
        batches(data, plan, mode, teachers),
        expected,
        config,
        ema=ema,
        callbacks=[Keep()],
    )
    model.load_state_dict(ema.tensors)
    return log


def _cut_clips(data: Subset, frames: int) -> Subset:
    """The same windows cut into clips side by side, without their ground truth, which the pretext does not read."""
    clips = object.__new__(Subset)
    count = data.frames.shape[1] // frames
    clips.manifest = data.manifest
    clips.frames = data.frames[:, : count * frames].unflatten(1, (count, frames)).flatten(0, 1)
    clips.mask = data.mask[:, : count * frames].unflatten(1, (count, frames)).flatten(0, 1)
    cut = data.motion[:, :, : count * frames].unflatten(2, (count, frames))  # [W, C, n, T, H, W]
    clips.motion = cut.transpose(1, 2).flatten(0, 1)
    clips.segments, clips.labels = data.segments.repeat_interleave(count, 0), data.labels.repeat_interleave(count, 0)
    table = data.windows
    many = {name: getattr(table, name).repeat(count) for name in COLUMNS}
    clips.windows = dataclasses.replace(table, **many)
    return clips


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


def average_map(
    job: JobConfig, model: nn.Module, predictions: Predictions, data: Subset, rename: Callable[[str], str]
) -> float:
    """Average mAP in percent, by the evaluation of the jobs, with labels renamed (merged, perhaps).

    A moment gives one segment and a score for each class: of those that a merged label finds at the same place the best
    counts, or the others would be false positives of it.
    """
    path = DetectionPath(job.data.window, job.evaluate.inference, data.manifest.classes)
    windows = path.read(model, predictions)
    detections: list[Detection] = []
    truth: dict[str, list[Segment]] = {}
    for video in range(len(data.manifest)):
        row = data.manifest.row(video)
        own = [(int(data.windows.start_frames[w]), windows[w]) for w in np.flatnonzero(data.windows.video == video)]
        merged = path.merge(own, video=row.key, duration_s=row.duration_s)
        renamed = [dataclasses.replace(one, label=rename(one.label)) for one in merged]  # by descending score
        places = {(one.label, one.start_s, one.end_s): one for one in reversed(renamed)}
        detections += places.values()
        names = map(rename, row.labels)
        truth[row.key] = [Segment(*one) for one in zip(names, row.start_s, row.end_s, strict=True)]
    table, wanted = DetectionTable.from_detections(detections), GroundTruth.from_segments(truth)
    return 100 * evaluate_detections(table, wanted, job.evaluate.tiou, ties="stable").average


def _select(output: DetectorOutput, rows: Tensor) -> DetectorOutput:
    return DetectorOutput(output.feature[rows], {name: value[rows] for name, value in output.predictions.items()})
