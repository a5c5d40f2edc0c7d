"""What a large data set costs the data plane, simulated: no video, no network, but the project's own manifest and plan.

    python -m benchmarks.scale [--videos 1000000] [--ranks 256]

A manifest is written in a scratch folder: lengths are log-normal (mean 120 s, sigma 1), 1.5 Mbit/s, a key frame every
8.33 s, 100 videos a shard, and layouts of the size that they would have. Real code: writing, opening and verifying the
manifest, windows, plan, packets, row reads, and which blocks of a video a window fetches. Each role runs in a process of its
own, so that its memory can be told: what is not backed by a file, beyond that of the imports. Stated, not measured: what
storage takes (`--latency-ms` a request, `--mb-s` a process); decoding is left out. Prints the table of docs/scale.md.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tadscale.data import manifest_file
from tadscale.data.blocks import GAP_BYTES
from tadscale.data.fetching import WHOLE_SHARE, foreseen_blocks
from tadscale.data.layout import BLOCK_BYTES, DIGEST_BYTES, VideoLayout
from tadscale.data.manifest import MANIFEST_NAME, Manifest, VideoRow, open_manifest, write_manifest
from tadscale.data.plan import EMPTY, Plan
from tadscale.data.source import Source
from tadscale.data.windows import WindowConfig
from tadscale.runtime.pipeline.packets import PacketLayout, windows_per_packet
from tadscale.runtime.stage.plan_spec import PlanSpec, ReadSources, open_plan

WINDOW = WindowConfig(frames=256, stride_frames=128, fps=10.0, height=112, width=112)
VIDEOS_PER_SHARD = 100
MEAN_S, SIGMA = 120.0, 1.0
BYTES_PER_S = 1.5e6 / 8
GROUP_S = 250 / 30
HEAD_BYTES = 64 << 10
WINDOWS_PER_RANK = 8
SAMPLED_STEPS = 400  # of which the balance is taken
SAMPLED_WINDOWS = 2000  # whose blocks are counted
SURVEYED_BYTES = 4 << 20  # smaller videos have no layout
T = TypeVar("T")


class Setting(NamedTuple):
    """What is simulated."""

    url: str
    ranks: int
    latency_s: float
    bytes_per_s: float

    @property
    def spec(self) -> PlanSpec:
        """The plan of a run of ten epochs over all videos."""
        batch = self.ranks * WINDOWS_PER_RANK
        return PlanSpec(sources=(Source(url=self.url),), window=WINDOW, seed=0, epochs=10, global_batch=batch)

    def storage_s(self, requests: float, size: float) -> float:
        """What storage takes for requests one after the other, by the stated model."""
        return requests * self.latency_s + size / self.bytes_per_s


class Videos(Sequence[VideoRow]):
    """Rows made on demand: a million of them are never held."""

    def __init__(self, url: str, count: int) -> None:
        rng = np.random.default_rng(0)
        self._url = url
        self._duration_s = np.clip(rng.lognormal(np.log(MEAN_S) - SIGMA**2 / 2, SIGMA, count), 2, 7200).round(3)
        self._noise = rng.bytes(1 << 20)

    def __len__(self) -> int:
        return len(self._duration_s)

    @overload
    def __getitem__(self, index: int) -> VideoRow: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[VideoRow]: ...

    def __getitem__(self, index: int | slice) -> VideoRow | Sequence[VideoRow]:
        if isinstance(index, slice):
            return [self[nth] for nth in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        duration_s = float(self._duration_s[index])
        size, at = int(duration_s * BYTES_PER_S), index * 32 % (1 << 19)
        segments = index % 4
        starts = tuple(round(duration_s * nth / 4, 2) for nth in range(segments))
        return VideoRow(
            url=f"{self._url}/shard-{index // VIDEOS_PER_SHARD:06d}.tar", key=f"video-{index:09d}", subset="train",
            video_offset=512 + size * (index % VIDEOS_PER_SHARD), video_bytes=size,
            video_sha256=self._noise[at : at + 32].hex(), duration_s=duration_s, fps=30.0, frames=round(duration_s * 30),
            width=1280, height=720, labels=("run", "jump", "throw")[:segments], start_s=starts,
            end_s=tuple(start + duration_s / 8 for start in starts), layout=self._noise[at : at + layout_bytes(size)],
        )  # fmt: skip


def layout_bytes(size: int) -> int:
    """Of a video of `size` bytes, by the format of `tadscale.data.layout`."""
    if size <= SURVEYED_BYTES:
        return 0
    return 30 + DIGEST_BYTES * -(-size // BLOCK_BYTES) + 8 * round(size / BYTES_PER_S / GROUP_S)


class Counted(NamedTuple):
    """Something that was done once."""

    seconds: float
    """Of the processor's."""
    requests: int
    """To storage, for the manifest."""
    bytes: int


class Driver(NamedTuple):
    """What the driver does before the first step."""

    verify: Counted
    digest_s: float
    plan_s: float
    plan_digest_s: float
    memory: int
    read: ReadSources


class Worker(NamedTuple):
    """What a fetching process does."""

    opened: Counted
    order_s: float
    batch_s: float
    row: Counted
    memory: int
    whole: int


class Load(NamedTuple):
    """How windows, requests and bytes spread."""

    windows: int
    steps: int
    packets: int
    data_requests: float
    data_bytes: float
    rank_step: float
    rank_epoch: float
    shard_step: float
    shard_epoch: float


def main(argv: list[str] | None = None) -> None:
    """Measure each part, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--ranks", type=int, default=256)
    parser.add_argument("--latency-ms", type=float, default=20.0, help="of a request to storage")
    parser.add_argument(
        "--mb-s", type=float, default=100.0, help="that a process gets from storage, 10^6 bytes a second"
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(folder, arguments.ranks, arguments.latency_ms / 1e3, arguments.mb_s * 1e6)
        written_s = in_process(write, folder, arguments.videos)
        driver = in_process(drive, setting)
        worker, load = in_process(work, setting, driver.read), in_process(spread, setting, driver.read)
        for line in table(setting, written_s, driver, worker, load):
            sys.stdout.write(line + "\n")


def in_process(role: Callable[..., T], *arguments: Any) -> T:
    """Call it in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(role, *arguments).result()


def write(url: str, videos: int) -> float:
    """The manifest; CPU seconds."""
    began = time.process_time()
    write_manifest(Manifest(url=url, classes=("jump", "run", "throw"), rows=Videos(url, videos)))
    return time.process_time() - began


def drive(setting: Setting) -> Driver:
    """What the driver does: read and verify all, make the plan, take its digests."""
    import_module("pyarrow.parquet")
    anonymous = memory()
    began = time.process_time()
    manifest, plan = open_plan(setting.spec)
    whole_s = time.process_time() - began
    digest_s = timed(lambda: open_manifest(setting.url).subset("train").digest).seconds
    plan_digest_s = timed(lambda: plan.digest).seconds
    plan_s = timed(lambda: open_plan(setting.spec, ReadSources.of(manifest))).seconds
    held = memory() - anonymous
    size = manifest_bytes(setting.url)
    verify = Counted(
        whole_s - digest_s - plan_s, 3 + size.groups // (4 << 20), size.footer + size.indices + size.groups
    )
    return Driver(verify, digest_s, plan_s, plan_digest_s, held, ReadSources.of(manifest))


def work(setting: Setting, read: ReadSources) -> Worker:
    """What a fetching process does until it has its first packet's rows, and then for every other window."""
    import_module("pyarrow.parquet")
    anonymous = memory()
    opened = timed(lambda: open_plan(setting.spec, read))
    manifest, plan = open_plan(setting.spec, read)
    after_index = memory() - anonymous
    order_s = timed(lambda: plan.batch(0)).seconds
    batch_s = timed(lambda: [plan.batch(step) for step in range(100)]).seconds / 100
    videos = [int(plan.windows.video[window]) for window in plan.batch(1)[:200] if window != EMPTY]
    row = timed(lambda: [manifest.row(video) for video in videos])
    each = Counted(row.seconds / len(videos), row.requests, row.bytes)._replace(
        requests=round(row.requests / len(videos)), bytes=row.bytes // len(videos)
    )
    timed(lambda: plan.batch(plan.steps_per_epoch))  # the next epoch's order is held beside this one's
    return Worker(opened, order_s, batch_s, each, after_index, memory() - anonymous)


def timed(action: Callable[[], Any]) -> Counted:
    """Do it; what it took of the processor and of the manifest."""
    sizes: list[int] = []
    reals = {name: getattr(manifest_file, name) for name in ("read_range", "read_verified", "file_size")}

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            sizes.append(arguments[2] if len(arguments) > 2 else 0)
            return real(*arguments, **named)

        return call

    for name, real in reals.items():
        setattr(manifest_file, name, counting(real))
    began = time.process_time()
    try:
        action()
        return Counted(time.process_time() - began, len(sizes), sum(sizes))
    finally:
        for name, real in reals.items():
            setattr(manifest_file, name, real)


def memory() -> int:
    """Bytes of this process that no file stands behind."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) << 10


class Size(NamedTuple):
    """Of the manifest's parts, bytes."""

    layouts: int
    groups: int
    indices: int
    footer: int
    per_group: int


def manifest_bytes(url: str) -> Size:
    """How large its parts are."""
    where = Path(url, MANIFEST_NAME)
    file = manifest_file.open_manifest_file(str(where))
    assert file is not None
    begin, end = file.groups[0][0], file.groups[-1][0] + file.groups[-1][1]
    with where.open("rb") as stream:
        stream.seek(-8, 2)
        footer = int.from_bytes(stream.read(4), "little") + 8
    size = where.stat().st_size
    return Size(begin, end - begin, size - end - footer, footer, (end - begin) // len(file.groups))


def spread(setting: Setting, read: ReadSources) -> Load:
    """How an epoch's windows load ranks and shards: all by the plan, some steps of it in full."""
    manifest, plan = open_plan(setting.spec, read)
    duration_s = manifest.duration_s
    share = plan.global_batch // setting.ranks
    layout = PacketLayout(
        first_step=0,
        total_steps=plan.steps_per_epoch,
        global_batch=plan.global_batch,
        world_size=setting.ranks,
        windows=windows_per_packet(share, WINDOW),
    )
    sample = np.random.default_rng(0).choice(len(plan.windows), min(SAMPLED_WINDOWS, len(plan.windows)), replace=False)
    requests, sizes = np.array([fetched(plan, duration_s, int(window)) for window in sample]).T
    of_rank, of_shard = loads(plan, duration_s, setting.ranks)
    return Load(
        len(plan.windows),
        plan.steps_per_epoch,
        len(layout),
        requests.mean(),
        sizes.mean(),
        rank_step=(of_rank.max(1) / of_rank.mean(1)).mean(),
        rank_epoch=of_rank.sum(0).max() / of_rank.sum(0).mean(),
        shard_step=(of_shard.max(1) / of_shard.mean(1)).mean(),
        shard_epoch=shard_epoch(plan),
    )


def fetched(plan: Plan, duration_s: NDArray[np.float64], window: int) -> tuple[int, int]:
    """Requests for a window's pictures, and their bytes: those of the blocks that it would ask for."""
    seconds = float(duration_s[plan.windows.video[window]])
    size = int(seconds * BYTES_PER_S)
    if not layout_bytes(size):
        return 1, size
    cuts = np.linspace(HEAD_BYTES, size, max(round(seconds / GROUP_S), 1) + 1).astype(np.int64)
    times = (np.arange(len(cuts) - 1) * GROUP_S * 1e6).astype(np.int64)
    head = np.array([[0, HEAD_BYTES]])
    layout = VideoLayout(size, BLOCK_BYTES, head, np.stack([cuts[:-1], cuts[1:]], 1), times, b"")
    start, valid = int(plan.windows.start_frames[window]), int(plan.windows.valid_frames[window])
    blocks = foreseen_blocks(layout, *WINDOW.span_s(start, valid))
    if len(blocks) > WHOLE_SHARE * layout.blocks:
        return 1, size
    apart = np.flatnonzero(np.diff(blocks) - 1 > GAP_BYTES // BLOCK_BYTES)
    return 1 + len(apart), len(blocks) * BLOCK_BYTES


def loads(plan: Plan, duration_s: NDArray[np.float64], ranks: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bytes of each rank `[steps, R]` and windows of each shard `[steps, S]`, of the first steps of an epoch."""
    steps = min(SAMPLED_STEPS, plan.steps_per_epoch - 1)
    share, shards = plan.global_batch // ranks, -(-len(duration_s) // VIDEOS_PER_SHARD)
    span_s = WINDOW.frames / WINDOW.fps + GROUP_S  # a group more than the window, on average
    of_rank, of_shard = np.zeros((steps, ranks)), np.zeros((steps, shards))
    for step in range(steps):
        videos = plan.windows.video[plan.batch(step)]
        of_rank[step] = np.minimum(duration_s[videos], span_s).reshape(ranks, share).sum(1) * BYTES_PER_S
        of_shard[step] = np.bincount(videos // VIDEOS_PER_SHARD, minlength=shards)
    return of_rank, of_shard


def shard_epoch(plan: Plan) -> float:
    """Windows of the shard with the most of them in an epoch, against the mean."""
    counts = np.bincount(plan.windows.video // VIDEOS_PER_SHARD)
    return float(counts.max() / counts.mean())


def table(setting: Setting, written_s: float, driver: Driver, worker: Worker, load: Load) -> Iterator[str]:
    """The rows of docs/scale.md."""
    size, videos = manifest_bytes(setting.url), len(open_manifest(setting.url))
    window_requests = load.data_requests + worker.row.requests
    open_s = worker.opened.seconds + setting.storage_s(worker.opened.requests, worker.opened.bytes)
    each_s = worker.row.seconds + setting.storage_s(window_requests, worker.row.bytes + load.data_bytes)
    packet = windows_per_packet(WINDOWS_PER_RANK, WINDOW)
    verify_s = driver.verify.seconds + setting.storage_s(driver.verify.requests, driver.verify.bytes)
    rows = {
        "videos, shards, ranks": f"{videos:,}, {-(-videos // VIDEOS_PER_SHARD):,}, {setting.ranks}",
        "windows, steps, packets an epoch": f"{load.windows:,}, {load.steps:,}, {load.packets:,}",
        "manifest: layouts, rows, index, footer": ", ".join(mib(part) for part in size[:4]),
        "writing it": f"{written_s:.0f} s CPU",
        "driver: read and verify all rows": f"{driver.verify.seconds:.1f} s CPU, {mib(driver.verify.bytes)}",
        "driver: digest of the training videos": f"{driver.digest_s:.1f} s CPU",
        "plan from the index: windows": f"{driver.plan_s:.2f} s CPU",
        "plan digest": f"{driver.plan_digest_s:.2f} s CPU",
        "driver: memory": mib(driver.memory),
        "worker: opening the plan": f"{worker.opened.seconds:.2f} s CPU, {worker.opened.requests} requests, "
        f"{mib(worker.opened.bytes)}",
        "worker: order of an epoch": f"{worker.order_s:.2f} s CPU",
        "worker: `plan.batch(step)` after that": f"{worker.batch_s * 1e6:.0f} us",
        "worker: row of a window": f"{worker.row.seconds * 1e3:.2f} ms CPU, {worker.row.requests} requests, "
        f"{worker.row.bytes / 1e3:.0f} kB",
        "worker: memory for manifest and windows; with two orders": f"{mib(worker.memory)}; {mib(worker.whole)}",
        "window: requests, bytes from shards": f"{load.data_requests:.2f}, {load.data_bytes / 1e6:.2f} MB",
        "epoch: requests, bytes": f"{load.windows * window_requests / 1e6:.1f} M, "
        f"{load.windows * (load.data_bytes + worker.row.bytes) / 1e12:.2f} TB",
        "bytes of the busiest rank / mean: a step, all": f"{load.rank_step:.2f}, {load.rank_epoch:.3f}",
        "windows of the busiest shard / mean: a step, an epoch": f"{load.shard_step:.1f}, {load.shard_epoch:.2f}",
        "first batch: driver, then a worker's plan and packet": f"{verify_s + driver.digest_s:.0f} s, "
        f"{open_s + worker.order_s:.1f} + {packet * each_s:.1f} s",
    }
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {value} |" for name, value in rows.items())


def mib(size: float) -> str:
    """Bytes for people."""
    return f"{size / (1 << 20):.1f} MiB" if size < 10 << 20 else f"{size / (1 << 20):.0f} MiB"


if __name__ == "__main__":
    main()
