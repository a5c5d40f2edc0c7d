"""What the motion actors make of packets."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tadscale.data.augment import Augment
from tadscale.data.config import DataConfig
from tadscale.engine.optim import OptimConfig
from tadscale.flow.motion import MotionConfig
from tadscale.network import save_network
from tadscale.runtime.pipeline.motion_teacher import MotionTeacher
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.spec import Stage, stage_of
from tests.runtime.conftest import WINDOW
from tests.runtime.pipeline.test_fetch import MEASURED

CLASSES = ("a", "b", "c")
FLOW_SHARDS = "precomputed(8 bits) of dis(preset=medium)"


@pytest.fixture
def stage(tmp_path) -> Stage:
    """A distilling stage of several epochs, with a teacher of random weights."""
    job = JobConfig(
        kind="distill",
        name="run",
        storage=str(tmp_path),
        data=DataConfig(url="nowhere", window=WINDOW),
        optim=OptimConfig(epochs=3),
        motion=MotionConfig(name="temporal_gradient_slow"),
    )
    torch.manual_seed(0)
    teacher = stage_of(job, "teacher").network(CLASSES)
    save_network(str(tmp_path / "teacher"), teacher, teacher.build().state_dict())
    return stage_of(job, "decomposed", str(tmp_path / "teacher"))


def with_job(stage: Stage, **changes) -> Stage:
    """The stage as it stands, its job changed."""
    return stage.model_copy(update={"job": stage.job.model_copy(update=changes)})


def packet(windows: list[int], valid: list[bool]):
    """Frames that a window's number decides."""
    frames = [
        np.random.default_rng(abs(w)).integers(0, 256, (WINDOW.frames, WINDOW.height, WINDOW.width, 3)) for w in windows
    ]
    n = len(windows)
    return {
        "position": np.arange(n),
        "window": np.array(windows),
        "valid": np.array(valid),
        "mask": np.ones((n, WINDOW.frames), bool) & np.array(valid)[:, None],
        "frames": np.stack(frames).astype(np.uint8) * np.array(valid, np.uint8)[:, None, None, None, None],
    }


def counting(teacher: MotionTeacher) -> list[int]:
    """Windows that motion is computed of, call by call."""
    counts, compute = [], teacher._motion

    def counted(frames):
        counts.append(len(frames))
        return compute(frames)

    counted.channels, counted.span_frames = compute.channels, compute.span_frames
    teacher._motion = counted
    return counts


@pytest.mark.parametrize("mode", ["teacher", "decomposed"])
def test_what_is_remembered_is_what_would_be_made(stage, mode):
    stage = stage.model_copy(update={"mode": mode})
    remembering, forgetting = MotionTeacher(stage, "cpu", 1, 1 << 30), MotionTeacher(stage, "cpu", 1, 1)
    counts = counting(remembering)
    remembering(packet([4, 7], [True, True]))
    mixed = packet([7, 9, 5], [True, True, False])
    remembered, made = remembering(mixed), forgetting(mixed)
    assert counts == [1, 1, 1]  # 4, 7 and 9
    assert remembered.keys() == made.keys()
    assert all(np.array_equal(remembered[name], made[name]) for name in remembered.keys() - MEASURED)
    assert [took > 0 for took in remembered["motion_us"].tolist()] == [False, True, False]
    assert [took > 0 for took in made["motion_us"].tolist()] == [True, True, False]
    added = [name for name in remembered.keys() - MEASURED if name not in mixed]
    assert added
    assert all(not remembered[name][2].any() for name in added)  # the invalid window's


def test_precomputed_motion_is_read_and_not_computed(stage):
    reads = with_job(stage, motion=MotionConfig(name="precomputed", flow_url="somewhere"))
    reads = reads.model_copy(update={"mode": "teacher", "motion_fingerprint": FLOW_SHARDS})
    columns = packet([3, 5], [True, False])
    columns["flow"] = np.random.default_rng(0).integers(1, 256, columns["frames"].shape).astype(np.uint8)
    made = MotionTeacher(reads, "cpu", 1)(columns)
    assert {"flow", "frames"}.isdisjoint(made)
    expected = (columns["flow"][0, ..., :2].astype(np.float32) - 128) / 127  # [T, H, W, 2]
    assert np.abs(made["motion_fields"][0] - np.moveaxis(expected, -1, 0)).max() < 1e-3
    assert not made["motion_fields"][1].any()


def test_without_memory_windows_share_a_batch(stage):
    teacher = MotionTeacher(stage, "cpu", 1)
    counts = counting(teacher)
    teacher(packet([1, 2], [True, True]))
    before_s = time.time()
    made = teacher(packet([1, 2], [True, True]))
    assert counts == [2, 2]
    first_us, second_us = made["motion_us"].tolist()
    assert 0 < first_us == second_us  # they share the packet's time
    assert before_s < made["motion_unix_s"][0] - first_us / 1e6 < time.time()


def test_windows_that_change_are_not_remembered(stage):
    augmented = WINDOW.model_copy(update={"augment": Augment(flip_probability=0.5)})
    varied = with_job(stage, data=DataConfig(url="nowhere", window=augmented))
    teacher = MotionTeacher(varied, "cpu", 1, 1 << 30)
    counts = counting(teacher)
    teacher(packet([1], [True]))
    teacher(packet([1], [True]))
    assert counts == [1, 1]


def test_a_packet_without_a_valid_window_has_the_same_columns(stage):
    teacher = MotionTeacher(stage, "cpu", 1, 1 << 30)
    none, some = teacher(packet([-1, -1], [False, False])), teacher(packet([1, 2], [True, True]))
    assert {name: (v.shape, v.dtype) for name, v in none.items()} == {n: (v.shape, v.dtype) for n, v in some.items()}
    assert not none["teacher/feature"].any()


def test_another_motion_than_the_driver_s_is_refused(stage):
    elsewhere = stage.model_copy(update={"motion_fingerprint": "raft/1(weights=0123)"})
    with pytest.raises(ValueError, match="have the same on every machine"):
        MotionTeacher(elsewhere, "cpu", 1)


def test_padding_is_not_seen_as_motion(stage):
    """A black frame after the last one would be motion everywhere."""
    short = packet([3], [True])
    short["frames"][:, 9:], short["mask"][:, 9:] = 0, False
    teacher = stage.model_copy(update={"mode": "teacher"})
    motion = MotionTeacher(teacher, "cpu", 1)(short)["motion_fields"]  # [1, C, T, H, W]
    alone = {name: value[:, :9] if name in ("frames", "mask") else value for name, value in short.items()}
    assert np.array_equal(motion[:, :, :9], MotionTeacher(teacher, "cpu", 1)(alone)["motion_fields"])
    assert not motion[:, :, 9:].any()


def test_threads_compute_one_at_a_time_and_alike(stage):
    teacher = MotionTeacher(stage, "cpu", 1)
    inside, compute = [0], teacher._make

    def watched(*given):
        inside[0] += 1
        assert inside[0] == 1
        time.sleep(0.05)  # another thread would come in now
        made = compute(*given)
        inside[0] -= 1
        return made

    teacher._make = watched
    packets = [packet([n, n + 1], [True, True]) for n in range(4)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(teacher, packets))
    for one, given in zip(found, packets, strict=True):
        alone = MotionTeacher(stage, "cpu", 1)(given)
        assert all(np.array_equal(one[name], alone[name]) for name in alone.keys() - MEASURED)


@pytest.mark.parametrize("memo_bytes", [0, 1 << 30])
def test_one_uploads_while_another_computes(stage, memo_bytes, monkeypatch):
    motion = MotionTeacher(stage, "cpu", threads=1, memo_bytes=memo_bytes)
    upload, locked = motion._upload, []
    monkeypatch.setattr(motion, "_upload", lambda array: locked.append(motion._computing.locked()) or upload(array))
    motion(packet([5, 6], [True, True]))
    assert locked and not any(locked)
    locked.clear()
    motion(packet([5], [True]))
    assert len(locked) == (0 if memo_bytes else 1)  # what is remembered is not uploaded
