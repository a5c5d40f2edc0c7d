"""The plan executed inside the training workers: each rank makes its own packets, ahead of the loop, in threads of its own.

Where one machine is enough, Ray Data has nothing to spread, and costs some 60 ms of CPU time a packet. The packets are those
that it would deal out, packet `p` to rank `p % world_size`, and what makes them is the same code: `fetch_packet`,
`MotionTeacher`, `cut_batches`. So the batches are the same, bit for bit.

Threads do, for what takes time in fetching and motion lets go of Python's lock: PyAV's demuxer, decoder and scaler, digests,
sockets, torch, and the loops of TV-L1. Nothing is copied from process to process, and decoded windows can be kept.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Self

from tadscale.runtime.pipeline.dataset import PREFETCHED_STEPS
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.motion_teacher import MotionTeacher
from tadscale.runtime.pipeline.packets import Columns, PacketLayout, cut_batches
from tadscale.runtime.pipeline.window_memo import WindowMemo
from tadscale.runtime.stage.plan_spec import ReadSources
from tadscale.runtime.stage.spec import Stage


class PacketsAhead(Iterator[Columns]):
    """Packets in order, so many of them fetched and taught while the loop trains; use it as a context.

    Leaving the context drops what nobody will ask for and waits for its threads: for what they are fetching, which storage
    bounds (`tadscale/data/faults.py`), and for one packet's motion.

    Args:
        packets: their numbers.
        fetch: makes the columns of one; several threads call it at once.
        teach: `MotionTeacher`, where the stage needs motion; one thread calls it, packet after packet.
        threads: that fetch.
        ahead: packets that are begun and not yet asked for, at most.
    """

    def __init__(
        self,
        packets: Iterable[int],
        fetch: Callable[[int], Columns],
        teach: Callable[[Columns], Columns] | None,
        *,
        threads: int,
        ahead: int,
    ) -> None:
        self._packets = iter(packets)
        self._fetch, self._teach = fetch, teach
        self._fetching = ThreadPoolExecutor(threads, "fetch")
        self._teaching = ThreadPoolExecutor(1, "motion")
        self._ahead = ahead
        self._begun: deque[Future[Columns]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._fetching.shutdown(cancel_futures=True)  # first: motion waits for what is fetched
        self._teaching.shutdown(cancel_futures=True)

    def __next__(self) -> Columns:
        """The next packet; raises what fetching or teaching it raised."""
        self._begin()
        if not self._begun:
            raise StopIteration
        packet = self._begun.popleft().result()
        self._begin()
        return packet

    def _begin(self) -> None:
        while len(self._begun) < self._ahead and (packet := next(self._packets, None)) is not None:
            fetched = self._fetching.submit(self._fetch, packet)
            self._begun.append(fetched if self._teach is None else self._teaching.submit(_taught, self._teach, fetched))


def _taught(teach: Callable[[Columns], Columns], fetched: Future[Columns]) -> Columns:
    return teach(fetched.result())


@contextmanager
def embedded_batches(
    stage: Stage, layout: PacketLayout, rank: int, *, read: ReadSources | None, threads: int
) -> Iterator[Iterator[Columns]]:
    """A rank's batches, as `batch_columns` gives them, for as long as the context lasts.

    Args:
        stage: what is trained.
        layout: how packets are cut.
        rank: whose.
        read: what the driver found in the manifests.
        threads: that fetch.

    Raises:
        UserError: motion here is not what it is where the job was started.
    """
    cluster = stage.job.cluster
    fetch = partial(
        fetch_packet,
        spec=stage.plan,
        layout=layout,
        flow_url=stage.flow_url,
        cache=stage.job.data.cache,
        read=read,
        memo=WindowMemo(cluster.decoded_memo_mib << 20) if stage.repeats_windows else None,
    )
    teach = None
    if stage.needs_motion:  # with the threads that the process has already: they are the training step's, too
        memo_bytes = cluster.motion_memo_mib << 20
        teach = MotionTeacher(stage, cluster.device, cluster.threads_per_worker, memo_bytes, read)
    ahead = max(threads, -(-PREFETCHED_STEPS * layout.share // layout.windows)) + (teach is not None)
    mine = range(rank, len(layout), layout.world_size)
    with PacketsAhead(mine, fetch, teach, threads=threads, ahead=ahead) as packets:
        yield cut_batches(packets, layout.share)
