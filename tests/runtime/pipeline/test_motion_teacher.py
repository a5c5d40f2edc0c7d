"""What the motion actors make of packets."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tadscale.data.augment import Augment
from tadscale.engine.optim import OptimConfig
from tadscale.flow.motion import MotionConfig
from tadscale.models.config import ModelConfig
from tadscale.network import NetworkSpec, build_network, save_network
from tadscale.runtime.pipeline.motion_teacher import MotionTeacher
from tadscale.runtime.stage.spec import StageSpec
from tadscale.runtime.training.launch import identified
from tests.runtime.conftest import WINDOW

CLASSES = ("a", "b", "c")
FLOW_SHARDS = "precomputed(8 bits) of dis(preset=medium)"


@pytest.fixture
def spec(tmp_path) -> StageSpec:
    """A distilling stage of several epochs, with a teacher of random weights."""
    spec = identified(
        StageSpec(
            mode="decomposed",
            run_url=str(tmp_path),
            data_url="nowhere",
            window=WINDOW,
            optim=OptimConfig(epochs=3),
            motion=MotionConfig(name="temporal_gradient_slow"),
            teacher_url=str(tmp_path / "teacher"),
        )
    )
    torch.manual_seed(0)
    network = build_network("teacher", ModelConfig(), len(CLASSES), spec.motion)
    described = NetworkSpec(
        mode="teacher", model=ModelConfig(), classes=CLASSES, window=WINDOW, motion=spec.motion,
        plan_digest="", manifest_digest="",
    )  # fmt: skip
    save_network(spec.teacher_url, described, network.state_dict())
    return spec


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
def test_what_is_remembered_is_what_would_be_made(spec, mode):
    spec = spec.model_copy(update={"mode": mode})
    remembering, forgetting = MotionTeacher(spec, "cpu", 1, 1 << 30), MotionTeacher(spec, "cpu", 1, 1)
    counts = counting(remembering)
    remembering(packet([4, 7], [True, True]))
    mixed = packet([7, 9, 5], [True, True, False])
    told, made = remembering(mixed), forgetting(mixed)
    assert counts == [1, 1, 1]  # 4, 7 and 9
    assert told.keys() == made.keys()
    assert all(np.array_equal(told[name], made[name]) for name in told)
    added = [name for name in told if name not in mixed]
    assert added
    assert all(not told[name][2].any() for name in added)  # the invalid window's


def test_precomputed_motion_is_read_and_not_computed(spec):
    flow = {"motion": MotionConfig(name="precomputed", flow_url="somewhere"), "motion_fingerprint": FLOW_SHARDS}
    columns = packet([3, 5], [True, False])
    columns["flow"] = np.random.default_rng(0).integers(1, 256, columns["frames"].shape).astype(np.uint8)
    made = MotionTeacher(spec.model_copy(update={"mode": "teacher"} | flow), "cpu", 1)(columns)
    assert {"flow", "frames"}.isdisjoint(made)
    expected = (columns["flow"][0, ..., :2].astype(np.float32) - 128) / 127  # [T, H, W, 2]
    assert np.abs(made["motion"][0] - np.moveaxis(expected, -1, 0)).max() < 1e-3
    assert not made["motion"][1].any()


def test_without_memory_windows_share_a_batch(spec):
    teacher = MotionTeacher(spec, "cpu", 1)
    counts = counting(teacher)
    teacher(packet([1, 2], [True, True]))
    teacher(packet([1, 2], [True, True]))
    assert counts == [2, 2]


def test_windows_that_change_are_not_remembered(spec):
    augmented = WINDOW.model_copy(update={"augment": Augment(flip_probability=0.5)})
    teacher = MotionTeacher(spec.model_copy(update={"window": augmented}), "cpu", 1, 1 << 30)
    counts = counting(teacher)
    teacher(packet([1], [True]))
    teacher(packet([1], [True]))
    assert counts == [1, 1]


def test_a_packet_without_a_valid_window_has_the_same_columns(spec):
    teacher = MotionTeacher(spec, "cpu", 1, 1 << 30)
    none, some = teacher(packet([-1, -1], [False, False])), teacher(packet([1, 2], [True, True]))
    assert {name: (v.shape, v.dtype) for name, v in none.items()} == {n: (v.shape, v.dtype) for n, v in some.items()}
    assert not none["teacher/feature"].any()


def test_another_motion_than_the_driver_s_is_refused(spec):
    elsewhere = spec.model_copy(update={"motion_fingerprint": "raft/1(weights=0123)"})
    with pytest.raises(ValueError, match="have the same on every machine"):
        MotionTeacher(elsewhere, "cpu", 1)


def test_padding_is_not_seen_as_motion(spec):
    """A black frame after the last one would be motion everywhere."""
    short = packet([3], [True])
    short["frames"][:, 9:], short["mask"][:, 9:] = 0, False
    teacher = spec.model_copy(update={"mode": "teacher"})
    motion = MotionTeacher(teacher, "cpu", 1)(short)["motion"]  # [1, C, T, H, W]
    alone = {name: value[:, :9] if name in ("frames", "mask") else value for name, value in short.items()}
    assert np.array_equal(motion[:, :, :9], MotionTeacher(teacher, "cpu", 1)(alone)["motion"])
    assert not motion[:, :, 9:].any()


def test_threads_compute_one_at_a_time_and_alike(spec):
    teacher = MotionTeacher(spec, "cpu", 1)
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
        alone = MotionTeacher(spec, "cpu", 1)(given)
        assert all(np.array_equal(one[name], alone[name]) for name in alone)
