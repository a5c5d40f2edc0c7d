"""Writing the manifest's file, as `tadscale.data.manifest_file` describes it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tadscale.data.manifest_file import FORMAT, ROWS_PER_GROUP, Place
from tadscale.data.storage import upload
from tadscale.data.video_row import VideoRow, columns_of

DICTIONARIES = ["shard", "subset", "labels.list.element"]  # columns whose values come again and again


def write_manifest_file(where: str, rows: Sequence[VideoRow], notes: Mapping[str, str]) -> None:
    """Write rows, gone through several times, with notes for the footer. Raises `StorageError`."""
    with TemporaryDirectory(prefix="tadscale-manifest-") as folder:
        local = Path(folder, "manifest.parquet")
        _write(local, rows, notes)
        upload(local, where)


def _write(local: Path, rows: Sequence[VideoRow], notes: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(rows)
    settings = {"write_page_checksum": True, "write_statistics": False, "use_dictionary": DICTIONARIES}
    # Parquet's writer asks the file where it stands, so that what is put between its own parts does not disturb it.
    with pa.OSFile(str(local), "wb") as sink, pq.ParquetWriter(sink, schema, **settings) as writer:
        layouts = _put_layouts(sink, rows) if "layout_bytes" in schema.names else None
        groups = []
        for part in _parts(rows):
            first = sink.tell()
            writer.write_table(_table(part, layouts, schema), row_group_size=len(part))
            groups.append(_place(local, first, sink.tell() - first))
        first, index = sink.tell(), _index(rows)
        sink.write(index)
        parts = {"tadscale.groups": groups, "tadscale.index": _place(local, first, len(index))}
        writer.add_key_value_metadata(
            {**notes, "tadscale.format": FORMAT, **{name: json.dumps(value) for name, value in parts.items()}}
        )


def _parts(rows: Sequence[VideoRow]) -> Iterator[list[VideoRow]]:
    remaining = iter(rows)
    while part := list(islice(remaining, ROWS_PER_GROUP)):
        yield part


def _place(local: Path, first: int, size: int) -> Place:
    with local.open("rb") as file:
        file.seek(first)
        return first, size, hashlib.sha256(file.read(size)).hexdigest()


def _put_layouts(sink: Any, rows: Sequence[VideoRow]) -> Iterator[Place]:
    """Write all layouts; the place of each row's. Digests are taken when they are asked for: of those of a group."""
    first, sizes = sink.tell(), []
    for row in rows:
        sink.write(row.layout)
        sizes.append(len(row.layout))
    ends = first + np.cumsum(sizes)
    return zip((ends - sizes).tolist(), sizes, (_sha256(row.layout) for row in rows), strict=True)


def _sha256(layout: bytes) -> str:
    return hashlib.sha256(layout).hexdigest() if layout else ""


def _table(part: list[VideoRow], layouts: Iterator[Place] | None, schema: Any) -> Any:
    import pyarrow as pa

    columns = [columns_of(row) for row in part]
    if layouts is not None:
        names = ("layout_offset", "layout_bytes", "layout_sha256")
        for row, place in zip(columns, layouts, strict=False):
            row.update(zip(names, place, strict=True))
    return pa.Table.from_pylist(columns, schema=schema)


def _index(rows: Sequence[VideoRow]) -> bytes:
    """What a plan is made of, `INDEX`, as a Parquet table in itself: digests and checksums come with it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = [(row.duration_s, row.frames, row.subset, row.labelled) for row in rows]
    durations, frames, subsets, labelled = zip(*facts, strict=True)
    table = pa.table(
        {
            "duration_s": pa.array(durations, pa.float64()),
            "frames": pa.array(frames, pa.int64()),
            "subset": pa.array(subsets, pa.string()),
            "labelled": pa.array(labelled, pa.bool_()),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True, use_dictionary=["subset"])
    return bytes(sink.getvalue())


def _schema(rows: Sequence[VideoRow]) -> Any:
    """Columns that say something of no row are left out."""
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
    if not all(row.labelled for row in rows):
        columns["labelled"] = pa.bool_()
    if any(row.flow_bytes for row in rows):
        columns |= {"flow_offset": whole, "flow_bytes": whole, "flow_sha256": text}
    if any(row.layout for row in rows):
        columns |= {"layout_offset": whole, "layout_bytes": whole, "layout_sha256": text}
    return pa.schema(columns.items())
