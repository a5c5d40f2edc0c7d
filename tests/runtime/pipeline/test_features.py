"""A job on snippet features, its pieces run in one process: fetched, taught, trained, detected."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tadscale.data.config import DataConfig
from tadscale.data.feature_pack import FeatureFiles, pack_features
from tadscale.data.features import FeatureRows
from tadscale.data.manifest import read_manifest
from tadscale.data.windows import WindowConfig, read_video, tile
from tadscale.engine.batch import WindowBatch
from tadscale.engine.engine import LocalEngine
from tadscale.engine.optim import OptimConfig
from tadscale.engine.steps import Lesson, step_function
from tadscale.flow.motion import MotionConfig
from tadscale.models.backbones.features import FeaturesConfig
from tadscale.models.config import ModelConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.heads.objective import build_objective
from tadscale.network import save_network
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.jobs.preflight.networks import shapes
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.motion_teacher import MotionTeacher, check_teacher
from tadscale.runtime.pipeline.packets import Columns, PacketLayout
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import Stage, stage_of
from tadscale.serving.path import DetectionPath
from tadscale.serving.predictor import Predictor
from tests.data import snippets

ROWS = FeatureRows(channels=snippets.CHANNELS, stride=4, offset=8, video_fps=30)
WINDOW = WindowConfig(frames=96, stride_frames=48, fps=7.5, features=ROWS)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("features")
    files, annotations = snippets.draw_features(folder, train=8, test=2)
    described = FeatureFiles(stride=4, offset=8, video_fps=30, rgb_channels=snippets.CHANNELS)
    pack_features(str(files), str(annotations), str(folder / "shards"), described)
    return str(folder / "shards")


@pytest.fixture(scope="module")
def job(url: str, tmp_path_factory: pytest.TempPathFactory) -> JobConfig:
    head = ActionFormerConfig(dim=16, levels=3, heads=2, stem_blocks=1)
    return JobConfig(
        kind="distill",
        name="run",
        storage=str(tmp_path_factory.mktemp("runs")),
        data=DataConfig(url=url, window=WINDOW, train_subset="validation"),
        motion=MotionConfig(name="features", flow_url=url, feature_channels=snippets.FLOW_CHANNELS),
        model=ModelConfig(backbone=FeaturesConfig(width=16), dim=16, head=head),
        optim=OptimConfig(epochs=10, global_batch=4),
    )


def batches(stage: Stage) -> list[Columns]:
    """What a single rank gets, step by step."""
    _, plan = open_plan(stage.plan)
    layout = PacketLayout(first_step=0, total_steps=plan.total_steps, global_batch=4, world_size=1, windows=4)
    teacher = MotionTeacher(stage, "cpu", 1) if stage.needs_motion else None
    packets = [fetch_packet(packet, stage.plan, layout, stage.flow_url) for packet in range(plan.total_steps)]
    return [teacher(columns) if teacher else columns for columns in packets]


def trained(stage: Stage) -> tuple[nn.Module, list[float]]:
    """A stage's network after its plan, and its losses."""
    torch.manual_seed(0)
    manifest, _ = open_plan(stage.plan)
    network = stage.network(manifest.classes).build(for_training=True)
    lesson = Lesson(
        objective=build_objective(stage.job.model.head, len(manifest.classes)),
        student=stage.job.student,
        global_batch=4,
    )
    step, engine, losses = step_function(stage.mode, lesson), LocalEngine(network, stage.optim), []
    engine.set_lr(stage.optim.lr)
    for columns in batches(stage):
        columns.pop("error")
        loss = step(engine.model, WindowBatch.from_numpy(columns))["loss"]
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    return network, losses


@pytest.fixture(scope="module")
def teacher_url(job: JobConfig) -> str:
    stage = stage_of(job, "teacher")
    network, losses = trained(stage)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    weights = f"{job.run_url}/teacher/weights"
    save_network(weights, stage.network(read_manifest(job.data.url).classes), network.state_dict())
    return weights


def test_every_mode_gets_what_it_reads(job: JobConfig, teacher_url: str):
    columns = {mode: batches(stage_of(job, mode, teacher_url))[0] for mode in ("teacher", "baseline", "decomposed")}
    assert columns["teacher"]["motion_fields"].shape == (4, snippets.FLOW_CHANNELS, 96, 1, 1)
    assert "frames" not in columns["teacher"]
    for mode in ("baseline", "decomposed"):
        assert columns[mode]["frames"].shape == (4, 96, snippets.CHANNELS)
        assert columns[mode]["frames"].dtype == np.float32
    assert columns["decomposed"]["teacher/feature"].shape == (4, 16, 96)
    assert "flow" not in columns["decomposed"]


def test_a_student_of_flow_features_detects_on_rgb_features(job: JobConfig, teacher_url: str):
    stage = stage_of(job, "decomposed", teacher_url)
    check_teacher(stage, read_manifest(job.data.url))
    network, losses = trained(stage)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    manifest = read_manifest(job.data.url).subset("test")
    path = DetectionPath(WINDOW, job.evaluate.inference, manifest.classes)
    table = tile(manifest, WINDOW)
    for index, row in enumerate(manifest.rows):
        ids = np.flatnonzero(table.video == index)
        starts, valid = table.start_frames[ids], table.valid_frames[ids]
        windows, mask = path.cut(path.decode(read_video(row), starts, valid), starts, valid)
        found = path.detect(network.eval(), torch.from_numpy(windows), torch.from_numpy(mask))
        best = path.merge(list(zip(starts.tolist(), found, strict=True)), video=row.key, duration_s=row.duration_s)
        for label, truth in zip(row.labels, row.segments_s, strict=True):
            first = next(one for one in best if one.label == label)
            (start_s, end_s), (one_s, other_s) = truth, (first.start_s, first.end_s)
            assert min(end_s, other_s) - max(start_s, one_s) > 0.7 * (max(end_s, other_s) - min(start_s, one_s))


def test_a_video_without_its_rows_keeps_its_slot_and_its_shapes(job: JobConfig, teacher_url: str, tmp_path: Path):
    """All windows of a packet may be bad, and its columns must be like any other's."""
    stage = stage_of(job, "decomposed", teacher_url)
    [whole, *_] = batches(stage)
    layout = PacketLayout(first_step=0, total_steps=1, global_batch=4, world_size=1, windows=4)
    blank = fetch_packet(0, stage.plan, layout, stage.flow_url)
    for name in ("frames", "flow", "mask", "valid"):
        blank[name] = np.zeros_like(blank[name])
    none = MotionTeacher(stage, "cpu", 1)(blank)
    assert {name: (none[name].shape, none[name].dtype) for name in whole if name.startswith("teacher/")} == {
        name: (value.shape, value.dtype) for name, value in whole.items() if name.startswith("teacher/")
    }


def test_networks_are_tried_without_data(job: JobConfig):
    assert list(shapes(Facts(job))) == []


def test_a_registered_network_says_that_it_reads_no_video(job: JobConfig):
    spec = stage_of(job, "baseline").network(("jump", "run"))
    with pytest.raises(ValueError, match=r"reads features .* detects nothing in raw video"):
        Predictor(spec, spec.build())


@pytest.mark.parametrize(("changes", "says"), [
    ({"motion": MotionConfig()}, r"motion\.name is 'tvl1'"),
    ({"model": ModelConfig()}, r"model\.backbone\.name is 'small3d'"),
    ({"data": DataConfig(url="videos")}, r"data\.window\.features is not set, and model\.backbone\.name is 'features'"),
    ({"pretrain": {}}, r"pretrain and data\.sprites are about pictures"),
])  # fmt: skip
def test_a_job_is_of_features_throughout(job: JobConfig, changes: dict, says: str):
    tree = job.model_dump(mode="json") | {
        name: value if isinstance(value, dict) else value.model_dump(mode="json") for name, value in changes.items()
    }
    with pytest.raises(ValueError, match=says):
        JobConfig.model_validate(tree)
