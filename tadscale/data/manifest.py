"""The manifest: one row per video, with which a worker fetches any video by one ranged read."""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadscale.data.features import FeatureRows
from tadscale.data.limits import fault_of_row
from tadscale.data.storage import StorageError, join, read_bytes, write_bytes
from tadscale.errors import UserError, nearest

MANIFEST_NAME = "manifest.parquet"
FORMAT = "1"
MAX_ROWS = 10_000_000
SHARD_NAME = re.compile(r"[^/\\]+\.tar")


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """What is in a set of shards. The order of the rows belongs to its identity: plans count on it.

    Make one with `make_manifest`, `read_manifest`, `tadscale.data.shards.write_shards` or
    `tadscale.data.index.index_shards`.

    Attributes:
        url: the folder that holds the shards.
        classes: all labels of the data set, sorted; a subset keeps those of the whole.
        rows: one per video.
        features: what a row of features is, in shards that hold them in place of videos.
        flow_channels: channels of the flow features beside them; 0 where there are none.
    """

    url: str
    classes: tuple[str, ...]
    rows: tuple[VideoRow, ...] = field(repr=False)
    features: FeatureRows | None = None
    flow_channels: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        subsets = ", ".join(
            f"{name} {count}" for name, count in sorted(Counter(self.column("subset").tolist()).items())
        )
        hours = self.duration_s.sum() / 3600
        return f"{len(self)} videos ({subsets}), {hours:.2f} h, {len(self.classes)} classes, in {self.url}"

    def row(self, index: int) -> VideoRow:
        """One video."""
        return self.rows[index]

    def column(self, name: str) -> NDArray[Any]:
        """One scalar field of all rows, `[V]`."""
        return np.array([getattr(row, name) for row in self.rows])

    @cached_property
    def duration_s(self) -> NDArray[np.float64]:
        """`[V]` lengths of the videos."""
        return self.column("duration_s").astype(np.float64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is trained on: keys, video digests, annotations and their order.

        Where the bytes lie does not count, in a shard or inside a video: copied, resharded or indexed anew, a data set keeps
        its digest.
        """
        described = [] if self.features is None else [_features_note(self)]
        sha = hashlib.sha256(json.dumps([FORMAT, self.classes, *described]).encode())
        for row in self.rows:
            facts = row._asdict()
            for name in ("url", "video_offset", "label_ids", "source", "flow_offset", "layout"):
                del facts[name]
            if row.labelled:  # said of the others alone: digests of annotated videos are older than the word
                del facts["labelled"]
            if not row.flow_bytes:  # likewise
                del facts["flow_bytes"], facts["flow_sha256"]
            sha.update(json.dumps(facts, sort_keys=True).encode())
        return sha.hexdigest()

    def subset(self, name: str) -> "Manifest":
        """The videos of one subset, in order.

        Raises:
            UserError: there are none.
        """
        rows = tuple(row for row in self.rows if row.subset == name)
        if not rows:
            raise UserError(
                f"{self.url}: no video of subset {name!r}; {nearest(name, {row.subset for row in self.rows})}"
            )
        return replace(self, rows=rows)


def make_manifest(
    url: str,
    rows: Iterable[VideoRow],
    classes: Iterable[str] | None = None,
    *,
    features: FeatureRows | None = None,
    flow_channels: int = 0,
) -> Manifest:
    """Put rows together, and number their labels.

    Args:
        url: the folder that holds the shards.
        rows: with or without `label_ids`, which are overwritten.
        classes: the labels that may occur; by default those that do.
        features: see `Manifest`.
        flow_channels: see `Manifest`.

    Raises:
        UserError: no rows, two videos of one key, or a label that is not in `classes`.
    """
    rows = tuple(rows)
    if not rows:
        raise UserError(f"{url}: no usable video")
    seen: dict[str, VideoRow] = {}
    for row in rows:
        if row.key in seen:
            raise UserError(
                f"{url}: key {row.key!r} occurs twice, in {seen[row.key].shard} and {row.shard}: rename or remove one"
            )
        seen[row.key] = row
    known = sorted({label for row in rows for label in row.labels} if classes is None else set(classes))
    allowed = frozenset(known)
    for row in rows:
        for label in row.labels:
            if label not in allowed:
                raise UserError(unknown_label(row, label, known))
    ids = {label: index for index, label in enumerate(known)}
    numbered = (row._replace(label_ids=np.array([ids[label] for label in row.labels], np.int64)) for row in rows)
    return Manifest(
        url=url.rstrip("/"),
        classes=tuple(known),
        rows=tuple(numbered),
        features=features,
        flow_channels=flow_channels,
    )


def unknown_label(row: VideoRow, label: str, classes: Collection[str]) -> str:
    """What to tell the user of a label that is not in the class list."""
    return f"{row.url}: {row.key}.json: label {label!r} is not in the class list; {nearest(label, classes)}"


def read_manifest(url: str) -> Manifest:
    """Read and verify the manifest of a folder of shards.

    Raises:
        UserError: there is none, or it is damaged or of another format.
        StorageError: the storage cannot be reached or refuses.
    """
    where = join(url, MANIFEST_NAME)
    try:
        data = read_bytes(where)
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise UserError(
            f"{where} does not exist: the URL is wrong, writing was interrupted, or the shards come from another tool; "
            "for those make one with `tadscale data index`"
        ) from error
    try:
        return _parse(data, url)
    except UserError:
        raise
    except Exception as error:  # Arrow and NumPy raise whatever they like on bytes that were made up
        if isinstance(error, MemoryError):
            raise
        raise UserError(f"{where} is not a readable Parquet file ({error}): build the manifest again") from error


def _parse(data: bytes, url: str) -> Manifest:
    import pyarrow.parquet as pq

    where, file = join(url, MANIFEST_NAME), pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    notes = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
    if notes.get("tadscale.format") != FORMAT:
        raise UserError(f"{where} is not a manifest of format {FORMAT} of tadscale: build the manifest again")
    if file.metadata.num_rows > MAX_ROWS:
        raise UserError(f"{where} states {file.metadata.num_rows} videos, at most {MAX_ROWS} are read: build it again")
    rows = [_from_columns(url, columns) for columns in file.read().to_pylist()]
    for index, row in enumerate(rows):
        if fault := fault_of_row(row._asdict()):
            raise UserError(f"{where}: row {index} ({str(row.key)[:60]!r}): {fault}: build the manifest again")
    features = json.loads(notes.get("tadscale.features", "{}"))
    manifest = make_manifest(
        url,
        rows,
        json.loads(notes["tadscale.classes"]),
        features=FeatureRows.model_validate(features["rows"]) if features else None,
        flow_channels=int(features.get("flow_channels", 0)),
    )
    if manifest.digest != notes["tadscale.digest"]:
        raise UserError(f"{where}: the digest of its content is not the one it states: build the manifest again")
    return manifest


def write_manifest(manifest: Manifest) -> None:
    """Write `manifest.parquet` beside the shards. Raises `StorageError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    notes = {
        "tadscale.format": FORMAT,
        "tadscale.digest": manifest.digest,
        "tadscale.classes": json.dumps(manifest.classes),
    }
    if manifest.features is not None:
        notes["tadscale.features"] = json.dumps(_features_note(manifest))
    schema = _schema(
        notes,
        with_labelled=not all(row.labelled for row in manifest.rows),
        with_flow=any(row.flow_bytes for row in manifest.rows),
        with_layout=any(row.layout for row in manifest.rows),
    )
    table = pa.Table.from_pylist([_to_columns(row) for row in manifest.rows], schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)  # the digest above does not cover the layouts
    write_bytes(join(manifest.url, MANIFEST_NAME), buffer.getvalue())


def _features_note(manifest: Manifest) -> dict[str, Any]:
    assert manifest.features is not None
    return {"rows": manifest.features.model_dump(mode="json"), "flow_channels": manifest.flow_channels}


def _schema(notes: dict[str, str], with_labelled: bool, with_flow: bool, with_layout: bool) -> Any:
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int64(), pa.float64()
    columns = {
        "shard": text,
        "key": text,
        "subset": text,
        "video_offset": whole,
        "video_bytes": whole,
        "video_sha256": text,
        "duration_s": real,
        "fps": real,
        "frames": whole,
        "width": whole,
        "height": whole,
        "labels": pa.list_(text),
        "start_s": pa.list_(real),
        "end_s": pa.list_(real),
    }
    if with_labelled:
        columns["labelled"] = pa.bool_()
    if with_flow:
        columns |= {"flow_offset": whole, "flow_bytes": whole, "flow_sha256": text}
    if with_layout:
        columns["layout"] = pa.binary()
    return pa.schema(columns.items(), metadata=notes)


def _to_columns(row: VideoRow) -> dict[str, Any]:
    columns = {"shard": row.shard, **row._asdict()}
    del columns["url"], columns["label_ids"], columns["source"]
    return columns


def _from_columns(url: str, columns: dict[str, Any]) -> VideoRow:
    shard = columns.pop("shard")
    if not isinstance(shard, str) or not SHARD_NAME.fullmatch(shard):
        raise UserError(
            f"{join(url, MANIFEST_NAME)}: {shard!r} is not the file name of a shard: build the manifest again"
        )
    columns |= {name: tuple(columns[name] or ()) for name in ("labels", "start_s", "end_s")}
    return VideoRow(url=join(url, shard), **columns)
