"""The order in which Ray Data deals out the plan, and what travels."""

import random
import time

import numpy as np
import pytest

from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.runtime.cluster.node_groups import NodeGroups
from tadscale.runtime.pipeline.packets import PacketLayout, windows_per_packet
from tadscale.runtime.stage.plan_spec import open_plan
from tests.runtime.conftest import ONE_WORKER, WINDOW

APART = NodeGroups(fetch="data", motion="motion", training="train")
GROUPED = ONE_WORKER.model_copy(update={"groups": APART, "max_fetches": 1})

pytestmark = pytest.mark.usefixtures("cluster")


def late(batch):
    time.sleep(random.random() ** 3 * 0.05)  # mostly short, at times long: tasks overtake each other
    return batch | {"payload": np.zeros((1, 2, 64, 64, 3), np.uint8)}


class LateActor:
    def __call__(self, batch):
        time.sleep(random.random() ** 3 * 0.05)
        return batch


def test_packets_are_dealt_round_robin_whatever_overtakes_whatever():
    import ray
    from ray.data import TaskPoolStrategy

    from tadscale.runtime.pipeline.dataset import APART, PlanSource, deal, in_order, motion_pool

    @ray.remote(num_cpus=0.1)
    def consume(shard, rank):
        seen = []
        for batch in shard.iter_batches(batch_size=1, prefetch_batches=2):
            seen += batch["packet"].tolist()
            time.sleep(random.random() ** 3 * 0.04 * rank)  # ranks of different speed
        return seen

    # Two packets in hand, as on a GPU; none is asked for.
    growing = motion_pool(ClusterConfig(motion_actors=1, max_motion_actors=2, gpus_per_motion=1))
    source = ray.data.read_datasource(PlanSource(range(24)), num_cpus=0, compute=TaskPoolStrategy(size=1))
    dataset = source.map_batches(late, batch_size=1, num_cpus=0.25, **APART)
    dataset = dataset.map_batches(LateActor, batch_size=1, num_cpus=0.25, compute=growing)
    shards = deal(in_order(dataset), 2)
    seen = ray.get([consume.remote(shard, rank) for rank, shard in enumerate(shards)], timeout=120)
    assert seen == [list(range(rank, 24, 2)) for rank in range(2)]


@pytest.mark.parametrize("share", [ONE_WORKER, GROUPED], ids=["anywhere", "in groups"])
def test_motion_travels_in_place_of_frames_for_the_teacher(share, make_stage, tmp_path):
    from tadscale.data.windows import load_window
    from tadscale.flow.motion import build_motion
    from tadscale.runtime.pipeline.dataset import PipelineSpec, batch_columns, build_dataset, deal

    stage = make_stage(tmp_path, mode="teacher")
    manifest, plan = open_plan(stage.plan)
    layout = PacketLayout(
        first_step=plan.total_steps - 2,
        total_steps=plan.total_steps,
        global_batch=plan.global_batch,
        world_size=1,
        windows=2,
    )
    pipeline = PipelineSpec(plan=stage.plan, stage_json=stage.model_dump_json(), cluster=share, monitor="unused")
    received = list(batch_columns(deal(build_dataset(pipeline, layout), 1)[0], layout))
    assert [batch["position"].tolist() for batch in received] == [
        list(range(step * 4, step * 4 + 4)) for step in (plan.total_steps - 2, plan.total_steps - 1)
    ]
    for step, batch in zip((plan.total_steps - 2, plan.total_steps - 1), received, strict=True):
        assert "frames" not in batch
        assert batch["motion_fields"].dtype == np.float16
        for nth, window in enumerate(plan.batch(step).tolist()):
            if window < 0:
                assert not batch["motion_fields"][nth].any()
                continue
            row = plan.row(step, nth, window)
            frames = load_window(manifest.row(row.video), row.start_frames, row.valid_frames, WINDOW).frames
            import torch

            expected = build_motion(stage.job.motion)(torch.from_numpy(frames)[None])[0].numpy()
            assert np.abs(batch["motion_fields"][nth].astype(np.float32) - expected).max() < 1e-3


def test_a_step_of_full_size_travels_in_packets_below_the_bound():
    from tadscale.data.windows import WindowConfig

    window = WindowConfig(frames=256, stride_frames=128, height=112, width=112)
    windows = windows_per_packet(8, window)
    assert 8 % windows == 0
    assert windows * 256 * 112 * 112 * 3 <= 64 << 20
