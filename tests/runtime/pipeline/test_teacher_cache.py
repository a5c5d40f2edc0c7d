"""What a teacher says is kept across runs: the same bits, of nobody else, whoever dies or writes meanwhile."""

import errno
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tadscale.data import storage
from tadscale.data.augment import Augment
from tadscale.data.config import DataConfig
from tadscale.data.source import Source
from tadscale.data.storage import join, list_folders, list_names
from tadscale.engine.optim import OptimConfig
from tadscale.flow.motion import MotionConfig
from tadscale.network import save_network
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.motion_teacher import MotionTeacher
from tadscale.runtime.pipeline.packets import Columns, PacketLayout
from tadscale.runtime.pipeline.teacher_cache import CacheCount, TeacherCache, cache_key
from tadscale.runtime.stage.job import JobConfig, TeacherConfig
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import Stage, stage_of
from tadscale.runtime.stage.teacher_cache import TeacherCacheConfig
from tests.runtime.conftest import WINDOW
from tests.runtime.pipeline.test_fetch import MEASURED

ROOM = 1 << 30


def made(value: int, calls: list[int] | None = None) -> Callable[[], Columns]:
    """A result that its value decides, and a note that it was asked for."""

    def make() -> Columns:
        if calls is not None:
            calls.append(value)
        apart = np.arange(6, dtype=np.float32).reshape(1, 3, 2).transpose(0, 2, 1)  # [1, 2, 3], not contiguous
        return {"a": apart + value, "b": np.full((1, 3), value, np.int64)}

    return make


def same(one: Columns, other: Columns) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name])
        for name in one.keys() - MEASURED
    )


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_second_process_makes_nothing_and_has_the_same_bits(tmp_path: Path) -> None:
    calls: list[int] = []
    first = TeacherCache(str(tmp_path), ROOM)
    results = [first.recall(window, made(window, calls)) for window in (3, 0, 12345)]
    assert (calls, first.take_count(), first.take_count()) == ([3, 0, 12345], CacheCount(made=3), CacheCount())
    second = TeacherCache(str(tmp_path), ROOM)
    again = [second.recall(window, made(99, calls)) for window in (3, 0, 12345)]
    assert (len(calls), second.take_count()) == (3, CacheCount(hits=3))
    assert all(same(one, other) for one, other in zip(results, again, strict=True))


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, "flip", "other"])
def test_a_damaged_entry_is_made_again_counted_and_mended(tmp_path: Path, damage: bytes | str) -> None:
    cache = TeacherCache(str(tmp_path), ROOM)
    for window in (0, 1):
        cache.recall(window, made(window))
    mine, other = entries(tmp_path)
    data = bytearray(mine.read_bytes())
    data[-1] ^= 1
    mine.write_bytes({"flip": data, "other": other.read_bytes()}.get(damage, damage))  # type: ignore[call-overload]
    calls: list[int] = []
    cache = TeacherCache(str(tmp_path), ROOM)
    assert same(cache.recall(0, made(0, calls)), made(0)())
    assert (calls, cache.take_count()) == ([0], CacheCount(made=1, damaged=1))
    assert same(cache.recall(0, made(7, calls)), made(0)())
    assert cache.take_count() == CacheCount(hits=1)


def test_a_crash_before_the_rename_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(storage.Path, "replace", dies)
        patch.setattr(storage.Path, "unlink", lambda *_, **__: None)  # as if there had been no time to
        with pytest.raises(SystemExit):
            TeacherCache(str(tmp_path), ROOM).recall(5, made(5))
    assert [path.suffix for path in entries(tmp_path)] == [".part"]
    calls: list[int] = []
    after = TeacherCache(str(tmp_path), ROOM)
    assert same(after.recall(5, made(5, calls)), made(5)())
    assert (calls, after.take_count()) == ([5], CacheCount(made=1))  # absent, not damaged
    after.recall(5, made(6, calls))
    assert after.take_count() == CacheCount(hits=1)


def _write_many(folder: str, barrier: object) -> None:
    cache = TeacherCache(folder, ROOM)
    barrier.wait()  # type: ignore[attr-defined]
    for window in range(60):
        cache.recall(window, made(window))


def test_two_writers_at_once_leave_whole_entries(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    writers = [context.Process(target=_write_many, args=(str(tmp_path), barrier)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    reader = TeacherCache(str(tmp_path), ROOM)
    assert all(same(reader.recall(window, made(-1)), made(window)()) for window in range(60))
    assert reader.take_count() == CacheCount(hits=60)
    assert len(entries(tmp_path)) == 60


def test_the_bound_holds_however_many_write(tmp_path: Path) -> None:
    TeacherCache(str(tmp_path), ROOM).recall(0, made(0))
    [entry] = entries(tmp_path)
    room = 3 * entry.stat().st_size + 1
    for order in (range(9), reversed(range(9)), [8, 2, 7, 1]):
        cache = TeacherCache(str(tmp_path), room)
        for window in order:
            assert same(cache.recall(window, made(window)), made(window)())
    assert sum(path.stat().st_size for path in entries(tmp_path)) == 3 * entry.stat().st_size
    cache.take_count()
    for window in range(9):
        cache.recall(window, made(window))
    assert cache.take_count() == CacheCount(hits=3, made=6)


def test_storage_that_fails_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def full(url: str, *_: object, **__: object) -> None:
        tried.append(url)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tadscale.runtime.pipeline.teacher_cache.write_bytes", full)
    cache = TeacherCache(str(tmp_path), ROOM)
    assert all(same(cache.recall(window, made(window)), made(window)()) for window in range(3))
    assert (len(tried), cache.take_count()) == (1, CacheCount(made=3))
    assert "teacher.cache is not used any more" in caplog.text


def test_an_object_store_keeps_it_too(s3_url: str) -> None:
    calls: list[int] = []
    for _ in range(2):
        cache = TeacherCache(join(s3_url, "taught"), ROOM)
        assert same(cache.recall(1004, made(4, calls)), made(4)())
    assert (calls, cache.take_count()) == ([4], CacheCount(hits=1))
    assert list_folders(join(s3_url, "taught")) == ["000001"]
    assert list_names(join(s3_url, "taught", "000001")) == ["004"]


@pytest.fixture
def stage(tmp_path: Path, sprites: str) -> Stage:
    """A distilling stage of one epoch with a cache, and a teacher of random weights."""
    return stage_with(tmp_path, sprites)


def stage_with(folder: Path, url: str, seed: int = 0, motion: str = "temporal_gradient_slow", **job: object) -> Stage:
    cache = TeacherCacheConfig(url=str(folder / "cache"), bytes=ROOM)
    settings = {"data": DataConfig(url=url, window=WINDOW), "teacher": TeacherConfig(cache=cache)} | job
    named = JobConfig(
        kind="distill",
        name="run",
        storage=str(folder),
        motion=MotionConfig(name=motion),
        optim=OptimConfig(epochs=1, global_batch=4),
        **settings,
    )
    torch.manual_seed(seed)
    teacher, where = stage_of(named, "teacher").network(("a", "b", "c")), str(folder / f"teacher-{seed}-{motion}")
    save_network(where, teacher, teacher.build().state_dict())
    return stage_of(named, "decomposed", where)


def packets(stage: Stage) -> list[Columns]:
    layout = PacketLayout(first_step=0, total_steps=2, global_batch=4, world_size=1, windows=4)
    return [fetch_packet(packet, stage.plan, layout) for packet in range(len(layout))]


def without_cache(stage: Stage, epochs: int = 2) -> Stage:
    job = stage.job.model_copy(update={"teacher": TeacherConfig(), "optim": OptimConfig(epochs=epochs, global_batch=4)})
    return stage.model_copy(update={"job": job})


def test_a_second_run_never_asks_motion_or_teacher_and_trains_on_the_same_bits(stage: Stage) -> None:
    given = packets(stage)
    first, second = MotionTeacher(stage, "cpu", 1), MotionTeacher(stage, "cpu", 1)
    filled = [first(packet) for packet in given]

    def asked(*_: object) -> None:
        raise AssertionError("motion or teacher was asked")

    second._make = asked  # type: ignore[assignment, method-assign]
    read = [second(packet) for packet in given]
    plain = MotionTeacher(without_cache(stage), "cpu", 1, ROOM)
    for packet, one, other in zip(given, filled, read, strict=True):
        made_anew = plain(packet)
        assert one.pop("teacher_cache")[:, 1].tolist() == packet["valid"].astype(int).tolist()
        assert other.pop("teacher_cache")[:, 0].tolist() == packet["valid"].astype(int).tolist()
        assert [took > 0 for took in other["motion_us"].tolist()] == packet["valid"].tolist()  # reading takes time, too
        assert same(one, other)
        assert same(made_anew, other)


def test_memory_comes_first_and_is_not_counted(stage: Stage) -> None:
    twice = stage.model_copy(
        update={"job": stage.job.model_copy(update={"optim": OptimConfig(epochs=2, global_batch=4)})}
    )
    [packet, *_], teacher = packets(twice), MotionTeacher(twice, "cpu", 1, ROOM)
    assert teacher(packet)["teacher_cache"].sum(0).tolist() == [0, 4, 0]
    again = teacher(packet)
    assert again["teacher_cache"].sum(0).tolist() == [0, 0, 0]
    assert not again["motion_us"].any()


def test_whatever_would_make_another_result_is_kept_apart(stage: Stage, tmp_path: Path, sprites: str) -> None:
    def key(other: Stage) -> str:
        return cache_key(other, open_plan(other.plan)[1], "cpu")

    resized = DataConfig(url=sprites, window=WINDOW.model_copy(update={"resize": "crop"}))
    subset = DataConfig(url=sprites, window=WINDOW, sources=(Source(url=sprites, subset="test"),))
    others = [
        stage_with(tmp_path, sprites, seed=1),
        stage_with(tmp_path, sprites, motion="temporal_gradient_fast"),
        stage_with(tmp_path, sprites, data=resized),
        stage_with(tmp_path, sprites, data=subset),
    ]
    assert len({key(stage), *map(key, others)}) == 5
    assert key(stage_with(tmp_path, sprites, seed=0, student=stage.job.student, baseline=False)) == key(stage)


def test_without_the_setting_there_is_no_column_and_windows_that_change_are_refused(stage: Stage, sprites: str) -> None:
    assert "teacher_cache" not in MotionTeacher(without_cache(stage, 1), "cpu", 1)(packets(stage)[0])
    varied = DataConfig(url=sprites, window=WINDOW.model_copy(update={"augment": Augment(flip_probability=0.5)}))
    with pytest.raises(ValueError, match=r"teacher\.cache keeps what the teacher says of windows that come unchanged"):
        JobConfig.model_validate(stage.job.model_dump() | {"data": varied.model_dump()})
