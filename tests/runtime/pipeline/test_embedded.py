"""Packets that a rank makes for itself: the same as by hand, in order, bounded, and nothing is left behind."""

import shutil
import threading
import time

import numpy as np
import pytest

from tadscale.data.blocks import FetchCount, sum_counts
from tadscale.runtime.pipeline.embedded import PacketsAhead, embedded_batches
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.motion_teacher import MotionTeacher
from tadscale.runtime.pipeline.packets import PacketLayout, as_row, cut_batches, open_row
from tadscale.runtime.stage.plan_spec import ReadSources, open_plan
from tests.runtime.conftest import save_untrained
from tests.runtime.pipeline.test_fetch import MEASURED, damage


def layout_of(stage, world_size: int = 1, first_step: int = 0, windows: int = 2) -> PacketLayout:
    _, plan = open_plan(stage.plan)
    return PacketLayout(
        first_step=first_step,
        total_steps=plan.total_steps,
        global_batch=plan.global_batch,
        world_size=world_size,
        windows=windows,
    )


def by_hand(stage, layout, rank):
    """As the packets come through Ray Data: a row each, every packet for itself, nothing remembered of decoding."""
    cluster = stage.job.cluster
    teach = MotionTeacher(stage, "cpu", 1, cluster.motion_memo_mib << 20) if stage.needs_motion else None
    for number in range(rank, len(layout), layout.world_size):
        columns = open_row(as_row(fetch_packet(number, stage.plan, layout, stage.flow_url)))
        yield columns if teach is None else open_row(as_row(teach(columns)))


def embedded(stage, layout, rank=0, threads=2):
    read = ReadSources.of(open_plan(stage.plan)[0])
    return embedded_batches(stage, layout, rank, read=read, threads=threads)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("fetch", "motion"))]


@pytest.fixture(scope="module")
def teacher_url(make_stage, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("teacher")
    return save_untrained(make_stage(folder, mode="teacher"), folder / "weights", seed=1)


@pytest.mark.parametrize(
    ("mode", "world_size", "first_step", "windows"),
    [
        ("decomposed", 2, 0, 2),
        ("decomposed", 1, 3, 8),  # a packet holds two steps: the run resumes in the middle of one
        ("teacher", 1, 0, 2),
        ("baseline", 2, 11, 4),
    ],
)
def test_a_rank_trains_on_the_batches_of_the_other_data_plane_bit_for_bit(
    mode, world_size, first_step, windows, make_stage, teacher_url, tmp_path
):
    stage = make_stage(tmp_path, mode, teacher_url)
    layout = layout_of(stage, world_size, first_step, windows)
    for rank in range(world_size):
        expected = list(cut_batches(by_hand(stage, layout, rank), layout.share))
        with embedded(stage, layout, rank) as batches:
            received = list(batches)
        assert len(received) == len(expected) == layout.total_steps - first_step
        for one, other in zip(received, expected, strict=True):
            assert one.keys() == other.keys()
            for name in one.keys() - MEASURED:  # nothing is fetched of a window that is remembered
                assert (one[name].dtype, one[name].shape) == (other[name].dtype, other[name].shape)
                assert np.array_equal(one[name], other[name])
                assert one[name].flags.writeable


def test_what_is_decoded_is_fetched_once_unless_augmentation_changes_it_or_room_is_short(make_stage, tmp_path):
    from tadscale.data.augment import Augment
    from tests.runtime.conftest import WINDOW, changed

    stage = make_stage(tmp_path)
    flipped = changed(stage, data={"window": WINDOW.model_copy(update={"augment": Augment(flip_probability=0.5)})})
    no_room = changed(stage, cluster=stage.job.cluster.model_copy(update={"decoded_memo_mib": 0}))
    epoch = open_plan(stage.plan)[1].steps_per_epoch
    requests, loaded = {}, {}
    for name, each in {"kept": stage, "flipped": flipped, "no room": no_room}.items():
        with embedded(each, layout_of(each), threads=1) as batches:
            counts = [sum_counts(FetchCount(*count) for count in batch["fetch"].tolist()) for batch in batches]
        requests[name] = [count.requests for count in counts]
        loaded[name] = [(count.frames > 0, count.load_us > 0) for count in counts]
    windows = sum(requests["kept"][:epoch])
    assert windows == 30 and sum(requests["kept"][epoch:]) == 0
    assert sum(requests["flipped"]) == sum(requests["no room"]) == 3 * windows
    assert set(loaded["kept"][:epoch]) == set(loaded["no room"]) == {(True, True)}
    assert set(loaded["kept"][epoch:]) == {(False, False)}


def test_a_bad_video_is_named_in_every_epoch(make_stage, sprites, tmp_path):
    stage = make_stage(tmp_path / "run", data={"url": damage(tmp_path / "data", "train-00003", sprites)})
    layout = layout_of(stage)
    with embedded(stage, layout) as batches:
        bad = [[bool(error) for error in batch["error"].tolist()] for batch in batches]
    epochs = np.array(bad).reshape(stage.optim.epochs, -1).sum(1).tolist()
    assert epochs[0] > 0 and epochs == [epochs[0]] * 3


def test_storage_out_of_reach_ends_the_loop_and_the_threads(make_stage, sprites, tmp_path):
    from tadscale.data.storage import StorageError

    shutil.copytree(sprites, tmp_path / "gone")
    stage = make_stage(tmp_path / "run", data={"url": str(tmp_path / "gone")})
    layout = layout_of(stage)
    with pytest.raises(StorageError, match="shard"), embedded(stage, layout) as batches:
        for shard in (tmp_path / "gone").glob("*.tar"):
            shard.unlink()
        list(batches)
    assert not threads()


def test_a_loop_that_stops_early_leaves_no_thread(make_stage, teacher_url, tmp_path):
    stage = make_stage(tmp_path, "decomposed", teacher_url)
    with embedded(stage, layout_of(stage)) as batches:
        next(batches)
        assert threads()
    assert not threads()
    with pytest.raises(RuntimeError, match="by the loop"), embedded(stage, layout_of(stage)) as batches:
        next(batches)
        raise RuntimeError("by the loop")
    assert not threads()


def test_no_more_packets_are_begun_than_it_was_told():
    begun, taught = [], []

    def fetch(packet):
        begun.append(packet)
        time.sleep(0.02 if packet % 2 else 0.0)  # overtaken by the next
        return {"position": np.array([packet])}

    def teach(columns):
        taught.append(int(columns["position"][0]))
        return columns

    with PacketsAhead(range(20), fetch, teach, threads=3, ahead=4) as packets:
        for nth in range(20):
            assert next(packets)["position"].tolist() == [nth]
            assert max(begun) <= nth + 4
        assert next(packets, None) is None
    assert taught == list(range(20))


def test_what_teaching_raises_reaches_the_loop_in_its_place():
    def teach(columns):
        if columns["position"][0] == 2:
            raise ValueError("packet 2")
        return columns

    with PacketsAhead(range(9), lambda n: {"position": np.array([n])}, teach, threads=2, ahead=5) as packets:
        assert [int(next(packets)["position"][0]) for _ in range(2)] == [0, 1]
        with pytest.raises(ValueError, match="packet 2"):
            next(packets)
    assert not threads()
