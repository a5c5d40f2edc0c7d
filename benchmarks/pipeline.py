"""The whole data pipeline against simpler ways to have the same windows: from a bare decoder to a job that trains.

    python -m benchmarks.pipeline [--videos 48] [--epochs 5] [--places local s3] [--latency-ms 20] [--set A.B=VALUE]

Built-in videos of a job, as long as its window, so that everybody decodes the same pictures. Local files, and S3 (moto) on
loopback that answers each request 20 ms late. Loaders pass over all windows `--epochs` times and hand them to nobody:

- **PyAV**: a loop that reads each video whole and decodes it by `frame.to_ndarray`;
- **fetch_packet**: what the pipeline fetches and decodes with, in the same process;
- **embedded**: the threads of a training worker (`runtime/pipeline/embedded.py`), on all cores, nothing remembered;
- **webdataset**: the library of that name, with a `DataLoader` of as many workers as there are cores;
- **read_webdataset**: Ray Data's own reader, and a `map` that decodes.

**job** is one stage of the job (`--mode`), trained by its workers with either data plane, from the first step to the last;
**engine** is the same network trained by `LocalEngine` on windows decoded once and held in memory. CPU seconds are those of
all processes but the S3 server, and say more than windows a second where others use the machine, too; MiB are by how much
their anonymous memory grew.
"""

import argparse
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, Self

import av
import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from benchmarks.local_training import Subset, train_network
from benchmarks.s3 import Bucket, s3_bucket
from tadscale.data.manifest import read_manifest
from tadscale.data.shards import write_shards
from tadscale.data.sprites import class_names, draw_videos
from tadscale.data.storage import open_filesystem
from tadscale.engine.loop import StepRecord
from tadscale.runtime.cluster.capacity import ENVIRONMENT, connect
from tadscale.runtime.jobs.job_file import load_job
from tadscale.runtime.pipeline.embedded import embedded_batches
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.packets import PacketLayout
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.plan_spec import ReadSources, open_plan
from tadscale.runtime.stage.spec import Stage, stage_of
from tadscale.runtime.training.launch import train_stage

CORES = os.cpu_count() or 1
LOOK_EVERY_S = 0.2
SHARDS = 4  # a DataLoader's workers share out whole shards
JOBS: dict[str, dict[str, Any]] = {
    "job, embedded": {"data_plane": "embedded"},
    "job, embedded, nothing kept": {"data_plane": "embedded", "decoded_memo_mib": 0},
    "job, ray": {"data_plane": "ray"},
}


class Place(NamedTuple):
    """Where the shards are."""

    name: str
    url: str
    bucket: Bucket | None

    @property
    def shards(self) -> list[str]:
        """Paths on their file system."""
        filesystem, path = open_filesystem(self.url)
        return sorted(filesystem.glob(f"{path}/*.tar"))


class Cost(NamedTuple):
    """Of windows that somebody had."""

    windows: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Windows a second."""
        return self.windows / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Of processors, for a window."""
        return 1e3 * self.cpu_s / self.windows


class Meter:
    """Time, processor time and memory of this process and its descendants, the S3 server apart.

    They are looked at all the time: Ray lets processes go whose time no parent is told.
    """

    def __init__(self, bucket: Bucket | None) -> None:
        self._without = bucket.pid if bucket else 0
        self._cpu_s: dict[tuple[int, float], float] = {}  # by number and birth
        self._anonymous: list[int] = []
        self._looking = threading.Lock()

    @property
    def grown_mib(self) -> float:
        """The most anonymous memory of all of them together, beyond what there was at first."""
        return (max(self._anonymous) - self._anonymous[0]) / 2**20 if self._anonymous else 0.0

    def now(self) -> tuple[float, float]:
        """Seconds on the wall and of processors."""
        with self._looking:
            self._anonymous.append(self._look())
            return time.monotonic(), sum(self._cpu_s.values())

    def _look(self) -> int:
        """Note the processor time of all; returns their anonymous bytes."""
        here, anonymous = psutil.Process(), 0
        for process in [here, *here.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                if process.pid != self._without:
                    self._cpu_s[process.pid, process.create_time()] = sum(process.cpu_times()[:2])
                    memory = process.memory_info()
                    anonymous += memory.rss - memory.shared
        return anonymous

    def of(self, load: Callable[[], int]) -> Cost:
        """What it costs to load so many windows."""
        before = self.now()
        windows = load()
        wall_s, cpu_s = (after - began for after, began in zip(self.now(), before, strict=True))
        return Cost(windows, wall_s, cpu_s)

    @contextmanager
    def looking(self) -> Iterator[Self]:
        """Look around all the time while the block runs."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(LOOK_EVERY_S):
                self.now()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()


def main(argv: list[str] | None = None) -> None:
    """Measure one after the other, and print the table as it grows."""
    options = arguments(argv)
    os.environ |= ENVIRONMENT
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.callback(stop_ray)
        places = [Place("local", f"{folder}/shards", None)] if "local" in options.places else []
        if "s3" in options.places:
            bucket = stack.enter_context(s3_bucket(options.latency_ms / 1e3))
            places.append(Place("s3", f"{bucket.url}/shards", bucket))
        job = load_job(options.job, [*options.set, f"storage={folder}/runs", f"optim.epochs={options.epochs}"])
        for place in places:
            draw(job, options.videos, place.url)
        for row in rows(parts(job, places, options.mode), options):
            sys.stdout.write(f"| {' | '.join(row)} |\n")
            sys.stdout.flush()
    sys.stdout.write(f"{CORES} cores, load {os.getloadavg()[0]:.1f} at the end\n")


def rows(todo: "Iterator[Part]", options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """The table; what would begin too late is left out."""
    yield "windows from", "by", "windows/s", "CPU ms a window", "MiB", "against", "windows/s", "CPU"
    yield ("---",) * 8
    ends_s, costs = time.monotonic() + options.budget_s, dict[str, Cost]()
    for place, name, against, measure in todo:
        if options.only and name not in options.only:
            continue
        if time.monotonic() > ends_s:
            yield place.name, name, f"left out after {options.budget_s:.0f} s", "", "", "", "", ""
            continue
        with Meter(place.bucket).looking() as meter:
            cost = measure(meter)
        costs[f"{place.name} {name}"] = costs[name] = cost
        base = costs.get(f"{place.name} {against}", costs.get(against, cost))
        ratios = f"{cost.rate / base.rate:.2f}", f"{cost.cpu_ms / base.cpu_ms:.2f}"
        yield place.name, name, f"{cost.rate:.1f}", f"{cost.cpu_ms:.0f}", f"{meter.grown_mib:.0f}", against, *ratios


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", default="jobs/distill.yaml")
    parser.add_argument("--videos", type=int, default=48, help="a multiple of 4")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--mode", default="baseline", choices=["baseline", "teacher"])
    parser.add_argument("--places", nargs="+", default=["local", "s3"], choices=["local", "s3"])
    parser.add_argument("--latency-ms", type=float, default=20.0, help="of each answer of S3")
    parser.add_argument("--budget-s", type=float, default=600.0, help="what would begin later is left out")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of rows; by default all")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE")
    return parser.parse_args(argv)


Part = tuple[Place, str, str, Callable[[Meter], Cost]]


def parts(job: JobConfig, places: list[Place], mode: Any) -> Iterator[Part]:
    """What is measured, in order, and against what. Ray comes last: a `DataLoader` forks."""
    epochs = job.optim.epochs
    for place in places:
        stage = stage_at(job, place, mode, "loaders")
        yield place, "PyAV", "PyAV", partial(Meter.of, load=partial(bare, place, epochs))
        yield place, "fetch_packet", "PyAV", partial(Meter.of, load=partial(fetched, stage))
        yield place, "embedded", "PyAV", partial(Meter.of, load=partial(embedded, stage))
        yield place, "webdataset", "embedded", partial(Meter.of, load=partial(webdataset, place, epochs))
    for threads in dict.fromkeys((CORES, 1)):
        name = "engine" if threads == CORES else "engine, 1 thread"
        yield places[0], name, "engine", partial(engine, job, places[0], mode, threads)
    for place in places:
        yield place, "read_webdataset", "embedded", partial(read_webdataset, job, place)
        for name, settings in JOBS.items():
            yield place, name, "engine", partial(trained, stage_at(job, place, mode, name, settings))


def draw(job: JobConfig, videos: int, url: str) -> None:
    """Videos of one window each."""
    sprites = job.data.sprites
    assert sprites is not None
    few = sprites.model_copy(update={"train": videos, "validation": 0, "test": 0})
    write_shards(draw_videos(few), url, videos_per_shard=videos // SHARDS, classes=class_names(few))


def stage_at(job: JobConfig, place: Place, mode: Any, name: str, settings: dict[str, Any] | None = None) -> Stage:
    """A stage of the job on these shards."""
    cluster = job.cluster.model_copy(update=settings or {"decoded_memo_mib": 0})
    data = job.data.model_copy(update={"url": place.url})
    run = f"{place.name}-{name}".replace(", ", "-").replace(" ", "-")
    return stage_of(job.model_copy(update={"cluster": cluster, "data": data, "name": run}), mode)


def decode(video: bytes) -> NDArray[np.uint8]:
    """All pictures of a video, as a first page on PyAV shows it, `[T, H, W, 3]`; one thread, for there is one a core."""
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def bare(place: Place, epochs: int) -> int:
    """Read and decode, one video after the other."""
    manifest, windows = read_manifest(place.url), 0
    for _ in range(epochs):
        for row in manifest.rows:
            filesystem, path = open_filesystem(row.url)
            decode(filesystem.cat_file(path, start=row.video_offset, end=row.video_offset + row.video_bytes))
            windows += 1
    return windows


def layout_of(stage: Stage) -> PacketLayout:
    """Packets of one rank that trains alone."""
    _, plan = open_plan(stage.plan)
    batch = plan.global_batch
    return PacketLayout(first_step=0, total_steps=plan.total_steps, global_batch=batch, world_size=1, windows=batch)


def fetched(stage: Stage) -> int:
    """The plan's packets, one after the other."""
    layout = layout_of(stage)
    return sum(int(fetch_packet(packet, stage.plan, layout)["valid"].sum()) for packet in range(len(layout)))


def embedded(stage: Stage) -> int:
    """The same in threads."""
    read = ReadSources.of(open_plan(stage.plan)[0])
    with embedded_batches(stage, layout_of(stage), 0, read=read, threads=CORES) as batches:
        return sum(int(batch["valid"].sum()) for batch in batches)


def webdataset(place: Place, epochs: int) -> int:
    """The library's pipeline in a `DataLoader`; from S3 by curl, as it reads whatever has a URL."""
    from torch.utils.data import DataLoader
    from webdataset import WebDataset

    urls = place.shards
    if place.name == "s3" and place.bucket:
        urls = [f"pipe:curl -s '{place.bucket.signed(path)}'" for path in urls]
    dataset = WebDataset(urls * epochs, shardshuffle=False).to_tuple("mp4").map_tuple(decode)
    return sum(len(frames) > 0 for (frames,) in DataLoader(dataset, batch_size=None, num_workers=CORES))


def read_webdataset(job: JobConfig, place: Place, meter: Meter) -> Cost:
    """Ray Data's reader and a map; Ray's start does not count."""
    import ray.data
    from pyarrow.fs import S3FileSystem

    connect(job.cluster)
    filesystem = None
    if place.name == "s3" and place.bucket:
        filesystem = S3FileSystem(access_key="key", secret_key="secret", endpoint_override=place.bucket.endpoint)

    def load() -> int:
        paths = place.shards * job.optim.epochs
        samples = ray.data.read_webdataset(paths, filesystem=filesystem, decoder=None, suffixes=["mp4"])
        return sum(len(row["frames"]) > 0 for row in samples.map(_decoded).iter_rows())

    return meter.of(load)


def _decoded(sample: dict[str, Any]) -> dict[str, Any]:
    return {"frames": decode(sample["mp4"])}


def engine(job: JobConfig, place: Place, mode: Any, threads: int, meter: Meter) -> Cost:
    """One process that trains on windows in memory; decoding them does not count."""
    stage = stage_at(job, place, mode, "engine")
    data = Subset(stage.job, stage.job.data.train_subset)
    torch.set_num_threads(threads)
    windows = len(data.windows) * stage.optim.epochs
    cost = meter.of(lambda: train_network(stage.job, data, mode, seed=0) and windows)
    torch.set_num_threads(CORES)
    return cost


def trained(stage: Stage, meter: Meter) -> Cost:
    """A stage from its first step to its last: its processes' start and end do not count."""
    connect(stage.job.cluster)
    seen: list[tuple[StepRecord, float]] = []
    train_stage(stage, lambda record: seen.append((record, meter.now()[1])))
    (first, cpu_before_s), (last, cpu_s) = seen[0], seen[-1]
    batch = stage.optim.global_batch
    began_s, ended_s = ((record.step + 1) * batch / record.mean_windows_per_s for record in (first, last))
    return Cost((last.step - first.step) * batch, ended_s - began_s, cpu_s - cpu_before_s)


def stop_ray() -> None:
    """Leave nothing behind."""
    import ray

    ray.shutdown()


if __name__ == "__main__":
    main()
