"""A rank's batches on their way into the loop: what goes on as tensors, and what is kept account of."""

from tadscale.data.blocks import FetchCount, sum_counts
from tadscale.data.source import Source
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.packets import PacketLayout, as_row, cut_batches, open_row
from tadscale.runtime.stage.plan_spec import PlanSpec, open_plan
from tadscale.runtime.stage.stopwatch import Stopwatch, TimeSplit
from tadscale.runtime.training.batches import RankBatches
from tests.runtime.conftest import WINDOW


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
