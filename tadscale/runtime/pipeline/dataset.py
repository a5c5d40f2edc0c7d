"""Ray Data executing the plan: packets of plan positions -> fetch, decode, augment -> motion and teacher -> ranks.

One streaming execution serves the whole run and is dealt out to the ranks by `streaming_split`. What makes its order the
plan's, read off Ray 2.60's sources:

- `preserve_order=True`: blocks leave in the order of the source, and locality hints are ignored.
- `equal=False`: a block goes at once to the rank that has had the fewest rows, the lowest rank among equals. With blocks
  of one row each that is round-robin. (`equal=True` holds blocks back and drops a remainder.)
- `target_max_block_size=1`: a byte, so that every block of every stage is cut to exactly one row. A row is a packet.

Measured: 21 runs of 90 packets, on 2 and 3 raylets, for 1, 2 and 3 ranks on different nodes and of different speed, random
delays in fetching tasks and in a pool of 3 actors: every packet came to its rank, in place. A packet costs 17 ms of Ray's
own time on 2 cores (2 stages, 0.8 MB); in the demo some 60 ms of CPU time, over all its processes. A source of 100,000
packets was never more than a few read ahead: the coordinator stayed at 205 MiB while the first 320 were trained.

The loop checks every position it receives all the same: were Ray to change, the run stops and trains on nothing wrong.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataIterator, Dataset, ExecutionOptions, TaskPoolStrategy
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.train import DataConfig

from tadscale.config import Config
from tadscale.data.block_cache import CacheConfig
from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.runtime.pipeline.fetch import fetch_row
from tadscale.runtime.pipeline.packets import Columns, PacketLayout, as_row, cut_batches, open_row
from tadscale.runtime.stage.plan_spec import PlanSpec, ReadSources

if TYPE_CHECKING:
    import pyarrow as pa

PACKETS_PER_READ = 1024  # a task of the source; the driver holds one small object for each, and none for a packet
PREFETCHED_STEPS = 2  # per rank: one ready while one is trained
# Ray fuses a task into the actor that follows if their arguments are equal; decoding would then run inside the motion
# actors, one packet after the other. A default, spelled out, makes the arguments differ.
APART: dict[str, Any] = {"max_calls": 0}


class PlanSource(Datasource):
    """Numbers of packets, one a block, from tasks that make them on demand: nothing of the plan is materialised."""

    def __init__(self, packets: range) -> None:
        super().__init__()
        self._packets = packets

    def get_name(self) -> str:
        """How the operator is called in Ray's logs."""
        return "Plan"

    def estimate_inmemory_data_size(self) -> int | None:
        """Ray's question before it chooses a parallelism; ours is given."""
        return 8 * len(self._packets)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One task for every `PACKETS_PER_READ` packets, whatever the parallelism: the order is what matters."""
        starts = range(0, len(self._packets), PACKETS_PER_READ)
        return [self._task(self._packets[start : start + PACKETS_PER_READ]) for start in starts]

    def _task(self, packets: range) -> ReadTask:
        metadata = BlockMetadata(num_rows=len(packets), size_bytes=8 * len(packets), input_files=None, exec_stats=None)
        return ReadTask(lambda: _numbers(packets), metadata)


def _numbers(packets: range) -> "Iterator[pa.Table]":
    import pyarrow as pa

    for packet in packets:
        yield pa.table({"packet": [packet]})


class PipelineSpec(Config):
    """All that the pipeline is built from, as plain data: of its processes only the motion actors import torch."""

    plan: PlanSpec
    """Which windows come when."""
    read: ReadSources | None = None
    """What the driver found in the manifests, which the fetching processes then do not read as a whole."""
    flow_url: str | None = None
    """Shards of precomputed motion, if the stage reads any."""
    cache: CacheConfig | None = None
    """The cache of each node, if there is to be one."""
    stage_json: str | None
    """The `Stage` of a stage that needs motion, for the actors that compute it."""
    cluster: ClusterConfig
    """CPUs and GPUs of the pipeline's parts."""
    monitor: str
    """Name of the monitor actor, which knows the layout that the ranks begin with."""


class PlanDataConfig(DataConfig):
    """Builds the pipeline anew for each worker group: for its size, and for the step that it resumes from.

    Ray Train calls `configure` when rank 0 asks for its data, which is after it has chosen its checkpoint and told the
    monitor. The data sets that Ray Train was given are only names.
    """

    def __init__(self, spec: PipelineSpec) -> None:
        super().__init__()
        self._spec = spec

    def configure(
        self,
        datasets: dict[str, Dataset],
        world_size: int,
        worker_handles: Any = None,
        worker_node_ids: Any = None,
        **kwargs: Any,
    ) -> list[dict[str, DataIterator]]:
        """One iterator a rank; see `DataConfig.configure`."""
        layout = ray.get(ray.get_actor(self._spec.monitor).layout.remote())
        assert layout.world_size == world_size
        shards = deal(build_dataset(self._spec, layout), world_size)
        return [dict.fromkeys(datasets, shard) for shard in shards]


def build_dataset(spec: PipelineSpec, layout: PacketLayout) -> Dataset:
    """The pipeline, not yet started."""
    cluster = spec.cluster
    settings = {
        "spec": spec.plan,
        "layout": layout,
        "flow_url": spec.flow_url,
        "cache": spec.cache,
        "read": spec.read,
    }
    dataset = fetched(range(len(layout)), fetch_row, settings, cluster)
    if spec.stage_json is not None:
        dataset = dataset.map_batches(
            _MotionStage,
            fn_constructor_args=(
                spec.stage_json,
                cluster.motion_device,
                cluster.threads_per_motion,
                cluster.motion_memo_mib << 20,
                spec.read,
            ),
            batch_size=1,
            **motion_actors(cluster),
        )
    return in_order(dataset)


def fetched(packets: range, fetch: Callable[..., Any], settings: dict[str, Any], cluster: ClusterConfig) -> Dataset:
    """How every pipeline begins: numbers of packets, and the tasks that fetch and decode what each stands for.

    Args:
        packets: the numbers, in order.
        fetch: takes Ray's batch of one number, in the column `packet`, and `settings` by name.
        settings: plain data.
        cluster: CPUs of a task, how many there are, and where.
    """
    numbers = ray.data.read_datasource(PlanSource(packets), num_cpus=0, compute=TaskPoolStrategy(size=1))
    return numbers.map_batches(
        fetch,
        fn_kwargs=settings,
        batch_size=1,
        compute=TaskPoolStrategy(size=cluster.max_fetches),
        num_cpus=cluster.cpus_per_fetch,
        resources=cluster.placed("fetch"),
        **APART,
    )


def motion_actors(cluster: ClusterConfig) -> dict[str, Any]:
    """Arguments of `map_batches` for a class that runs in the actors of motion: how many, with what, and where."""
    return {
        "compute": motion_pool(cluster),
        "num_cpus": cluster.cpus_per_motion,
        "num_gpus": cluster.gpus_per_motion,
        "resources": cluster.placed("motion"),
    }


def motion_pool(cluster: ClusterConfig) -> ActorPoolStrategy:
    """The actors that compute motion. Their number changes no order: blocks leave in the order of the source.

    On a GPU two packets are in an actor's hands: one is taken out of shared memory and copied to the device, or put back,
    while the other is computed on. The actors themselves compute one at a time.
    """
    most = max(cluster.motion_actors, cluster.max_motion_actors or 0)
    on_gpu = cluster.gpus_per_motion > 0
    return ActorPoolStrategy(
        min_size=cluster.motion_actors,
        max_size=most,
        max_concurrent_calls_per_actor=2 if on_gpu else 1,
        enable_true_multi_threading=on_gpu,
    )


def in_order(dataset: Dataset) -> Dataset:
    """Make every block of every operator one row, and keep their order."""
    dataset.context.target_max_block_size = 1
    dataset.context.enable_progress_bars = False
    dataset.context.execution_options = ExecutionOptions(preserve_order=True)
    return dataset


def deal(dataset: Dataset, world_size: int) -> list[DataIterator]:
    """One iterator a rank; packet `p` goes to rank `p % world_size`."""
    return dataset.streaming_split(world_size, equal=False)


def batch_columns(shard: DataIterator, layout: PacketLayout) -> Iterator[Columns]:
    """A rank's batches: the columns of `fetch_packet` and `MotionTeacher`, writable, in the order of the plan."""
    ahead = -(-PREFETCHED_STEPS * layout.share // layout.windows)  # packets
    rows = shard.iter_batches(batch_size=1, batch_format="numpy", prefetch_batches=ahead)
    return cut_batches(map(open_row, rows), layout.share)


class _MotionStage:
    """`MotionTeacher` over Ray's batches of one row."""

    def __init__(self, stage_json: str, device: str, threads: int, memo_bytes: int, read: ReadSources | None) -> None:
        from tadscale.runtime.pipeline.motion_teacher import MotionTeacher
        from tadscale.runtime.stage.spec import Stage

        self._teacher = MotionTeacher(Stage.model_validate_json(stage_json), device, threads, memo_bytes, read)

    def __call__(self, batch: Columns) -> Columns:
        return as_row(self._teacher(open_row(batch)))
