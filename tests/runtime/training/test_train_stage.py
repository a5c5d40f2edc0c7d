"""Stages on real processes: two DeepSpeed ranks over gloo, fed by Ray Data; killed, preempted, damaged, resumed. One of them
feeds itself."""

import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from tadscale.data.quarantine import QuarantineEntry, QuarantineExceeded
from tadscale.engine.steps import AppearanceTeacherConfig, StudentConfig
from tadscale.errors import UserError
from tadscale.models.heads.objective import build_objective
from tadscale.network import spec_digest
from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.stage.spec import Stage
from tadscale.runtime.tracking.journal import JournalReader
from tests.runtime.conftest import ONE_WORKER, TWO_WORKERS, changed, save_untrained
from tests.runtime.pipeline.test_fetch import damage

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(600)]


def train(stage: Stage, cluster: ClusterConfig, on_record=None) -> StageResult:
    from tadscale.runtime.training.launch import train_stage

    job = stage.job.model_copy(update={"cluster": cluster})
    return train_stage(stage.model_copy(update={"job": job}), on_record)


def lines_of(result: StageResult) -> list[dict]:
    return [json.loads(line) for line in Path(result.log_url).read_text().splitlines()]


def trained_positions(result: StageResult) -> list[int]:
    spans = [span for line in lines_of(result) for span in line["positions"]]
    return [position for first, last in spans for position in range(first, last + 1)]


def training_processes() -> list[psutil.Process]:
    """The training workers that this process's Ray has started."""
    found = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in _command_line(p)]
    return sorted(found, key=lambda process: process.pid)


def _command_line(process: psutil.Process) -> str:
    """Empty where the process has ended meanwhile: Ray ends idle ones at any time."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one
        return ""


class SignalAt:
    """Sends a signal to one training worker, at the first record of a step or later."""

    def __init__(self, step: int, what: signal.Signals) -> None:
        self.step, self.what, self.sent = step, what, False

    def __call__(self, record) -> None:
        if record.step >= self.step and not self.sent:
            self.sent = True
            os.kill(training_processes()[-1].pid, self.what)


@pytest.fixture(scope="module")
def teacher_url(make_stage, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("teacher")
    return save_untrained(make_stage(folder, mode="teacher"), folder / "weights", seed=1)


@pytest.fixture(scope="module")
def wanted(make_stage, tmp_path_factory) -> dict[str, Any]:
    """An appearance teacher, and an epoch to be chosen: what a job may ask for beside the motion teacher."""
    folder = tmp_path_factory.mktemp("appearance")
    baseline = make_stage(folder, mode="baseline")
    rgb_url = save_untrained(baseline, folder / "weights", seed=2)
    return {
        "student": StudentConfig(appearance_teacher=AppearanceTeacherConfig(url=rgb_url)),
        "evaluate": baseline.job.evaluate.model_copy(update={"select": "validation"}),
    }


@pytest.fixture(scope="module")
def student(make_stage, teacher_url, wanted, tmp_path_factory) -> tuple[Stage, StageResult]:
    stage = make_stage(tmp_path_factory.mktemp("student"), "decomposed", teacher_url, **wanted)
    return stage, train(stage, TWO_WORKERS)


def test_a_stage_trains_the_whole_plan_once_and_reports(student):
    stage, result = student
    _, plan = open_plan(stage.plan)
    assert result.steps == plan.total_steps == 24
    assert trained_positions(result) == list(range(plan.total_steps * plan.global_batch))
    lines = lines_of(result)
    assert sum(line["valid"] for line in lines) == 3 * len(plan.windows)
    split = {"split_truth", "split_distill", "split_cosine"}  # of the gradients in the motion branch
    teachers = {"feature", "prediction", "appearance_teacher_feature", "appearance_teacher_prediction"}
    assert set(result.losses) == {"loss", "joint", "appearance"} | teachers | split
    assert result.losses == lines[-1]["losses"]
    assert lines[-1]["losses"]["loss"] < lines[0]["losses"]["loss"]
    assert (result.restarts, result.quarantined) == (0, 0)
    assert Path(result.quarantine_url).read_text() == ""
    assert result.seconds.train_s > 0
    assert 0 < result.seconds.checkpoint_s < result.seconds.total_s
    assert result.seconds.checkpoint_background_s > 0
    assert not Path(stage.log_parts_url).exists()
    assert sum(line["fetch"]["frames"] for line in lines) == 3 * plan.windows.valid_frames.sum()
    for line in lines:
        data = line["data"]
        assert data["load_s_per_window"] > 0 and data["motion_s_per_window"] > 0
        assert 0 < data["window_p50_s"] <= data["window_p95_s"]
        waited = data["load_wait_share"], data["motion_wait_share"]
        assert min(waited) >= 0 and sum(waited) <= line["data_wait_share"] + 0.05


def test_the_exported_student_is_the_average_and_has_no_branch_detector(student):
    from tadscale.engine.engine import select
    from tadscale.engine.state import load_state
    from tadscale.network import load_network

    stage, result = student
    network, described = load_network(result.weights_url)
    assert described.mode == "decomposed"
    assert described.plan_digest == result.plan_digest
    checkpoint, _ = load_state(f"{stage.url}/checkpoints/step-00000024")
    average = select(checkpoint.tensors, "ema/")
    state = network.state_dict()
    assert any(name.startswith("branch_head.") for name in average)
    assert set(state) == {name for name in average if not name.startswith("branch_head.")}
    assert all((state[name] == average[name]).all() for name in state)


def test_only_the_newest_checkpoints_are_kept(student):
    kept = sorted(folder.name for folder in Path(f"{student[0].url}/checkpoints").iterdir())
    assert kept == ["step-00000020", "step-00000024"]


def test_a_killed_worker_costs_nothing_but_time(student, make_stage, teacher_url, wanted, tmp_path):
    """The run ends by itself; its log and what it kept of each epoch are the uninterrupted run's, bit for bit: resume is
    exact, and runs repeat."""
    stage = make_stage(tmp_path, "decomposed", teacher_url, **wanted)
    kill = SignalAt(7, signal.SIGKILL)
    result = train(stage, TWO_WORKERS, kill)
    assert kill.sent
    assert result.restarts == 1
    assert trained_positions(result) == trained_positions(student[1])
    assert [line["losses"] for line in lines_of(result)] == [line["losses"] for line in lines_of(student[1])]
    assert result.kept_epochs.keys() == {1, 2} and result.epochs == 3
    assert result.kept_epochs == student[1].kept_epochs
    for epoch, digest in result.kept_epochs.items():
        assert spec_digest(result.epoch_url(epoch)) == digest


def test_workers_that_read_for_themselves_train_the_same_bit_for_bit(
    student, make_stage, teacher_url, wanted, tmp_path
):
    """And one that is killed goes on from a checkpoint on an epoch's border: the first window after it is the next epoch's
    first, none of the old order comes again, none is left out. What was remembered is gone, and made again."""
    stage = make_stage(tmp_path, "decomposed", teacher_url, checkpoint_every_steps=8, **wanted)
    _, plan = open_plan(stage.plan)
    assert plan.steps_per_epoch == 8
    seen: list[int] = []
    kill = SignalAt(11, signal.SIGKILL)

    def on_record(record) -> None:
        seen.append(record.step)
        kill(record)

    result = train(stage, TWO_WORKERS.model_copy(update={"data_plane": "embedded"}), on_record)
    assert result.restarts == 1
    again = [step for before, step in pairwise(seen) if step <= before]
    assert again in ([8], [16], [])  # on a busy machine the signal may come when the next epoch has begun
    assert (result.data_plane, student[1].data_plane) == ("embedded", "ray")
    for name in ("positions", "valid", "losses", "grad_norm"):
        assert [line[name] for line in lines_of(result)] == [line[name] for line in lines_of(student[1])]
    assert result.network_sha256 == student[1].network_sha256
    first, other = lines_of(result)[0], lines_of(student[1])[0]
    assert first["data"].keys() == other["data"].keys()
    assert first["fetch"]["frames"] == other["fetch"]["frames"] > 0
    assert first["data"]["motion_s_per_window"] > 0


def test_a_finished_stage_is_not_trained_again(student, monkeypatch):
    stage, result = student
    monkeypatch.setattr(
        "tadscale.runtime.training.launch.connect", lambda cluster: pytest.fail("nothing is left to do")
    )
    assert train(stage, TWO_WORKERS) == result


def test_changed_settings_are_refused_by_name(student):
    stage, _ = student
    with pytest.raises(ValueError, match=r"seed \(0 -> 1\).*trained anew: that folder"):
        train(changed(stage, seed=1), TWO_WORKERS)


def test_another_plan_is_refused_by_name(student, tmp_path):
    stage, _ = student
    Path(stage.url, "stage.json").rename(tmp_path / "stage.json")  # as if an older version had not written it
    try:
        with pytest.raises(ValueError, match=r"another plan.*trained anew: that folder"):
            train(changed(stage, seed=1), TWO_WORKERS)
    finally:
        (tmp_path / "stage.json").rename(Path(stage.url, "stage.json"))


def test_preempted_then_damaged_then_resumed_on_fewer_workers(make_stage, sprites, tmp_path):
    """SIGTERM writes a checkpoint; it is damaged on disk; the run goes on from the one before, on one worker, past a bad
    video, and the log still tells of every position once."""
    from tadscale.runtime.cluster.stopping import Preempted

    data_url = damage(tmp_path / "data", "train-00004", sprites)
    stage = make_stage(tmp_path / "run", mode="teacher", data={"url": data_url})
    terminate = SignalAt(6, signal.SIGTERM)
    with pytest.raises(Preempted, match="checkpoint is written"):
        train(stage, TWO_WORKERS, terminate)
    assert terminate.sent
    newest, before = sorted(Path(f"{stage.url}/checkpoints").iterdir(), reverse=True)[:2]
    assert int(newest.name[5:]) < 24
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")

    first_seen: list[int] = []
    result = train(stage, ONE_WORKER, lambda record: first_seen.append(record.step))
    assert min(first_seen) == int(before.name[5:])
    said = [line for line in JournalReader(stage.job.run_url).new_lines() if line.level == "WARNING"]
    assert [line.who for line in said] == ["teacher rank 0"] and "is not used, the one before is" in said[0].words
    _, plan = open_plan(stage.plan)
    assert trained_positions(result) == list(range(plan.total_steps * plan.global_batch))
    assert len(lines_of(result)[0]["positions"]) == 2
    assert len(lines_of(result)[-1]["positions"]) == 1
    [entry] = [json.loads(line) for line in Path(result.quarantine_url).read_text().splitlines()]
    assert (entry["key"], result.quarantined) == ("train-00004", 1)


def test_too_many_bad_videos_end_the_run_at_once(make_stage, sprites, tmp_path):
    data_url = damage(tmp_path / "data", "train-00004", sprites)
    stage = make_stage(tmp_path / "run", data={"url": data_url, "quarantine_budget": 0.0})
    started = time.monotonic()
    with pytest.raises(QuarantineExceeded, match="train-00004"):
        train(stage, ONE_WORKER)
    assert time.monotonic() - started < 120
    assert "train-00004" in Path(stage.url, "quarantine.jsonl").read_text()


def test_a_budget_that_an_earlier_attempt_spent_is_refused_before_training_and_a_raised_one_goes_on(
    make_stage, tmp_path, monkeypatch
):
    from tadscale.runtime.training import launch

    def begin(*_):
        raise InterruptedError("training begins")

    monkeypatch.setattr(launch, "_fit", begin)
    stage = make_stage(tmp_path / "run", data={"quarantine_budget": 0.1})
    found = [
        QuarantineEntry("shard-000000.tar", key, "torn", "decode")._asdict() for key in ("train-00001", "train-00004")
    ]
    ledger = Path(stage.url, "quarantine.jsonl")
    ledger.parent.mkdir(parents=True)
    ledger.write_text("".join(json.dumps(entry) + "\n" for entry in found))
    with pytest.raises(QuarantineExceeded, match=r"2 of 10 .*\n.*train-00001"):
        train(stage, ONE_WORKER)
    with pytest.raises(InterruptedError):
        train(changed(stage, data={"quarantine_budget": 0.2}), ONE_WORKER)


def test_a_teacher_that_does_not_fit_is_refused_before_anything_starts(make_stage, teacher_url, tmp_path):
    from tadscale.flow.motion import MotionConfig

    stage = make_stage(tmp_path, mode="conventional", teacher_url=teacher_url, motion=MotionConfig(name="dis"))
    with pytest.raises(ValueError, match="another motion"):
        train(stage, ONE_WORKER)
    with pytest.raises(ValueError, match="there is none"):
        train(make_stage(tmp_path, mode="conventional"), ONE_WORKER)


def test_workers_that_cannot_share_the_batch_are_refused(make_stage, tmp_path):
    with pytest.raises(ValueError, match="global_batch=4 cannot be shared equally by 3 workers"):
        train(make_stage(tmp_path), TWO_WORKERS.model_copy(update={"workers": 3}))


def _train_broken_code(config: dict[str, Any]) -> None:
    """A worker whose head has a loss that asks for what is not there."""
    from tadscale.runtime.training import worker

    class Broken:
        def loss(self, predictions: dict[str, Any], targets: Any) -> Any:
            return predictions["centre"]

    worker.build_objective = lambda *_: Broken()
    worker.train_worker(config)


def _train_bad_input(config: dict[str, Any]) -> None:
    """A worker that is told by what it reads that the user has to mend it."""
    from tadscale.runtime.training import worker

    def refuse(*_: Any) -> None:
        raise UserError("labels.json: no such class")

    worker.build_objective = refuse
    worker.train_worker(config)


def _train_diverging(config: dict[str, Any]) -> None:
    """A worker whose loss is no number."""
    from tadscale.runtime.training import worker

    class Diverging:
        def __init__(self, *settings: Any) -> None:
            self._objective = build_objective(*settings)

        def loss(self, predictions: Any, targets: Any) -> Any:
            return self._objective.loss(predictions, targets) * float("nan")

    worker.build_objective = Diverging
    worker.train_worker(config)


@pytest.mark.parametrize(
    ("worker", "error", "told"),
    [
        (_train_broken_code, "TrainingFailed", r"in the code: KeyError: 'centre' \(.*test_train_stage.py, line \d+\)"),
        (_train_bad_input, "UserError", r"^labels.json: no such class\n"),
        (_train_diverging, "TrainingFailed", r"diverged: step 0: a gradient is not finite, nor is the loss \("),
    ],
)
def test_what_a_second_attempt_would_not_change_is_told_and_not_tried_again(
    worker, error, told, make_stage, tmp_path, monkeypatch
):
    from tadscale.runtime.training import launch

    monkeypatch.setattr(launch, "train_worker", worker)
    stage = make_stage(tmp_path, mode="baseline")
    with pytest.raises((RuntimeError, UserError), match=told) as raised:
        train(stage, ONE_WORKER.model_copy(update={"data_plane": "embedded"}))
    assert type(raised.value).__name__ == error
    assert len([line for line in JournalReader(stage.job.run_url).new_lines() if line.ends]) == 1


def test_a_backbone_is_pretrained_without_labels_and_known_as_a_start(make_stage, tmp_path):
    from tadscale.engine.optim import OptimConfig
    from tadscale.engine.pretrain import PretrainConfig
    from tadscale.engine.start import load_start
    from tadscale.models.backbones.small3d import Small3dConfig
    from tadscale.network import load_network
    from tadscale.runtime.stage.spec import stage_of

    optim = OptimConfig(epochs=2, global_batch=4, warmup_epochs=0.1, ema_decay=0.5)
    stage = make_stage(tmp_path, "pretrain", pretrain=PretrainConfig(frames=8, optim=optim))
    result = train(stage, TWO_WORKERS.model_copy(update={"data_plane": "embedded"}))
    kinds = ("", "_blind", "_unexplained")
    assert {f"{what}{kind}" for what in ("motion", "colour") for kind in kinds} < set(result.losses)
    lines = lines_of(result)
    assert lines[-1]["losses"]["loss"] < lines[0]["losses"]["loss"]
    network, spec = load_network(result.weights_url)
    assert (spec.mode, spec.window.frames, stage.window.frames) == ("pretrain", 8, 8)
    assert stage_of(stage.job, "baseline", start_url=result.weights_url).start_sha256 == spec.weights_sha256
    backbone = Small3dConfig(width=4).build(3)
    load_start(backbone, result.weights_url)
    state = network.get_submodule("backbone").state_dict()
    assert all((value == state[name]).all() for name, value in backbone.state_dict().items())
