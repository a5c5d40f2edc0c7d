"""One video of a manifest, and how a row of the manifest's file becomes one."""

import re
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.limits import fault_of_row
from tadscale.data.storage import join
from tadscale.errors import UserError, nearest

MANIFEST_NAME = "manifest.parquet"
SHARD_NAME = re.compile(r"[^/\\]+\.tar")
LISTS = ("labels", "start_s", "end_s")


class VideoRow(NamedTuple):
    """One video of a manifest: all that a worker needs to load it.

    In shards of features, rows of RGB features `[T, C]` stand where the video would: `frames` is T, `width` is C.
    """

    url: str
    """Of the shard."""
    key: str
    """Unique in the data set."""
    subset: str
    """"train", "validation" or "test"."""
    video_offset: int
    """First byte of the video inside the shard."""
    video_bytes: int
    video_sha256: str
    """Digest of the video's bytes, hexadecimal."""
    duration_s: float
    """Counted from the pictures, not read from the header."""
    fps: float
    """Average pictures a second."""
    frames: int
    width: int
    """As displayed."""
    height: int
    labels: tuple[str, ...]
    """One for each of the N segments."""
    start_s: tuple[float, ...]
    end_s: tuple[float, ...]
    """At most `duration_s`."""
    label_ids: NDArray[np.int64] = np.empty(0, np.int64)
    """`[N]` indices into the manifest's classes; filled in by the manifest."""
    labelled: bool = True
    """Whether the segments are all there are; if not, there are none here, and nothing is known of the video."""
    source: int = 0
    """Which of a run's sources the video comes from; filled in by `open_sources`."""
    flow_offset: int = 0
    """First byte of the flow features inside the shard, where there are any."""
    flow_bytes: int = 0
    """0: there are none."""
    flow_sha256: str = ""
    layout: bytes = b""
    """What lies where inside the video (`tadscale.data.layout`); empty where it is fetched whole."""

    @property
    def shard(self) -> str:
        """File name of the shard."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def segments_s(self) -> NDArray[np.float64]:
        """`[N, 2]` starts and ends."""
        return np.array([self.start_s, self.end_s], np.float64).T.reshape(-1, 2)


def columns_of(row: VideoRow) -> dict[str, Any]:
    """A row as the manifest's file has it; the layout is kept apart."""
    columns = {"shard": row.shard, **row._asdict()}
    for name in ("url", "label_ids", "source", "layout"):
        del columns[name]
    return columns


def row_of(url: str, columns: dict[str, Any], index: int) -> VideoRow:
    """A row as it came out of the manifest's file, which whoever made it may have forged.

    Args:
        url: the folder of the shards.
        columns: by name; changed.
        index: number of the row in the file, for errors.

    Raises:
        UserError: a value that no video has, or a shard outside the folder.
    """
    where, shard = join(url, MANIFEST_NAME), columns.pop("shard")
    if not isinstance(shard, str) or not SHARD_NAME.fullmatch(shard):
        raise UserError(f"{where}: {shard!r} is not the file name of a shard: build the manifest again")
    columns |= {name: tuple(columns[name] or ()) for name in LISTS}
    row = VideoRow(url=join(url, shard), **columns)
    if fault := fault_of_row(row._asdict()):
        raise UserError(f"{where}: row {index} ({str(row.key)[:60]!r}): {fault}: build the manifest again")
    return row


def unknown_label(row: VideoRow, label: str, classes: Collection[str]) -> str:
    """What to tell the user of a label that is not in the class list."""
    return f"{row.url}: {row.key}.json: label {label!r} is not in the class list; {nearest(label, classes)}"
