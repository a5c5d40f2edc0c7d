"""A rank's batches on their way into the loop: what goes on as tensors, and what is kept account of."""

import time

import numpy as np

from tadscale.data.blocks import FetchCount, sum_counts
from tadscale.data.source import Source
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.packets import PacketLayout, as_row, cut_batches, open_row
from tadscale.runtime.pipeline.teacher_cache import CacheCount
from tadscale.runtime.stage.plan_spec import PlanSpec, open_plan
from tadscale.runtime.stage.stopwatch import Stopwatch, TimeSplit
from tadscale.runtime.training.batches import RankBatches
from tests.runtime.conftest import WINDOW


def test_what_became_of_windows_in_a_cache_is_summed_and_is_no_tensor(sprites):
    spec = PlanSpec(sources=(Source(url=sprites),), window=WINDOW, seed=0, epochs=1, global_batch=4)
    layout = PacketLayout(first_step=0, total_steps=1, global_batch=4, world_size=1, windows=4)
    plain = open_row(as_row(fetch_packet(0, spec, layout)))
    asked = plain | {"teacher_cache": np.array([[1, 0, 0], [0, 1, 1], [0, 1, 0], [1, 0, 0]])}
    for packet, wanted in ((asked, CacheCount(hits=2, made=2, damaged=1)), (plain, CacheCount())):
        batches = RankBatches(iter([dict(packet)]), "cpu", None, Stopwatch(TimeSplit()))
        next(batches)
        assert batches.teacher_cache == wanted


def test_what_windows_took_to_fetch_is_summed_by_batch_and_is_no_tensor(sprites):
    spec = PlanSpec(sources=(Source(url=sprites),), window=WINDOW, seed=0, epochs=1, global_batch=4)
    manifest, plan = open_plan(spec)
    layout = PacketLayout(first_step=0, total_steps=2, global_batch=4, world_size=1, windows=2)
    packets = [open_row(as_row(fetch_packet(packet, spec, layout))) for packet in range(len(layout))]
    taken = [sum_counts(FetchCount(*count) for count in packet["fetch"].tolist()) for packet in packets]
    batches = RankBatches(cut_batches(iter(packets), layout.share), "cpu", None, Stopwatch(TimeSplit()))
    for step in range(2):
        batch = next(batches)
        assert batch.positions.tolist() == list(range(4 * step, 4 * step + 4))
        assert batches.fetch == sum_counts(taken[2 * step : 2 * step + 2])
        videos = [manifest.row(int(plan.windows.video[window])) for window in plan.batch(step).tolist()]
        assert batches.fetch.fetched == batches.fetch.needed == sum(video.video_bytes for video in videos)
        assert (batches.fetch.requests, batches.valid) == (4, 4)
        assert batches.fetch.load_us == batches.times_us[:, 0].sum() > 0
        assert not batches.times_us[:, 1].any()  # nobody computed motion


def test_what_windows_took_is_kept_apart_and_for_what_was_waited(sprites):
    spec = PlanSpec(sources=(Source(url=sprites),), window=WINDOW, seed=0, epochs=1, global_batch=4)
    layout = PacketLayout(first_step=0, total_steps=1, global_batch=4, world_size=1, windows=4)
    plain = fetch_packet(0, spec, layout) | {"valid": np.array([True, True, False, True])}

    def deliver():
        """Motion is there 50 ms after it is asked for, decoding was long before; handing over takes 30 ms more."""
        time.sleep(0.05)
        packet = plain | {"motion_us": np.array([5, 0, 7, 9]), "motion_unix_s": np.full(4, time.time())}
        time.sleep(0.03)
        yield packet

    stopwatch = Stopwatch(TimeSplit())
    batches = RankBatches(deliver(), "cpu", None, stopwatch)
    batch = next(batches)
    assert batch.valid.sum() == 3
    assert batches.times_us[:, 1].tolist() == [5, 0, 0, 9]
    assert batches.times_us[:, 0].tolist() == (plain["fetch"][:, 7] * plain["valid"]).tolist()
    assert batches.waited_us.load == 0
    assert 0.049 <= batches.waited_us.motion / 1e6 <= stopwatch.data_wait_s - 0.029
