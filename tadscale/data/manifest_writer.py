"""Writing the manifest's file, as `tadscale.data.manifest_file` describes it."""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    survey = _Survey(rows)
    schema = survey.schema()
    settings = {"write_page_checksum": True, "write_statistics": False, "use_dictionary": DICTIONARIES}
    # Parquet's writer asks the file where it stands, so that what is put between its own parts does not disturb it.
    with pa.OSFile(str(local), "wb") as sink, pq.ParquetWriter(sink, schema, **settings) as writer:
        layouts, groups, first_row = _put_layouts(sink, rows, survey), [], 0
        for part in _parts(rows):
            first = sink.tell()
            writer.write_table(_table(part, layouts[first_row:], schema), row_group_size=len(part))
            groups.append(_place(local, first, sink.tell() - first))
            first_row += len(part)
        first, index = sink.tell(), survey.index()
        sink.write(index)
        parts = {"tadscale.groups": groups, "tadscale.index": _place(local, first, len(index))}
        writer.add_key_value_metadata(
            {**notes, "tadscale.format": FORMAT, **{name: json.dumps(value) for name, value in parts.items()}}
        )


class _Survey:
    """What one pass over all rows finds: the index, and which columns say something of any row."""

    def __init__(self, rows: Iterable[VideoRow]) -> None:
        self.layout_bytes = array("q")
        self._duration_s, self._frames = array("d"), array("q")
        self._subset: list[str] = []
        self._labelled: list[bool] = []
        self._has_flow = False
        for row in rows:
            self._duration_s.append(row.duration_s)
            self._frames.append(row.frames)
            self._subset.append(row.subset)
            self._labelled.append(row.labelled)
            self.layout_bytes.append(len(row.layout))
            self._has_flow |= row.flow_bytes > 0

    def index(self) -> bytes:
        """What a plan is made of, `INDEX`, as a Parquet table in itself."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "duration_s": pa.array(np.array(self._duration_s)),
                "frames": pa.array(np.array(self._frames)),
                "subset": pa.array(self._subset, pa.string()),
                "labelled": pa.array(self._labelled, pa.bool_()),
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, write_page_checksum=True, use_dictionary=["subset"])
        return bytes(sink.getvalue())

    def schema(self) -> Any:
        """Of the groups."""
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
        if not all(self._labelled):
            columns["labelled"] = pa.bool_()
        if self._has_flow:
            columns |= {"flow_offset": whole, "flow_bytes": whole, "flow_sha256": text}
        if any(self.layout_bytes):
            columns |= {"layout_offset": whole, "layout_bytes": whole, "layout_sha256": text}
        return pa.schema(columns.items())


def _put_layouts(sink: Any, rows: Iterable[VideoRow], survey: _Survey) -> NDArray[np.int64]:
    """Write all layouts, where there are any; `[V]` the first byte of each row's."""
    first = sink.tell()
    if any(survey.layout_bytes):
        for row in rows:
            sink.write(row.layout)
    sizes = np.array(survey.layout_bytes)
    return first + np.cumsum(sizes) - sizes


def _parts(rows: Sequence[VideoRow]) -> Iterator[list[VideoRow]]:
    remaining = iter(rows)
    while part := list(islice(remaining, ROWS_PER_GROUP)):
        yield part


def _place(local: Path, first: int, size: int) -> Place:
    with local.open("rb") as file:
        file.seek(first)
        return first, size, hashlib.sha256(file.read(size)).hexdigest()


def _table(part: list[VideoRow], layouts: NDArray[np.int64], schema: Any) -> Any:
    import pyarrow as pa

    columns = [columns_of(row) for row in part]
    if "layout_bytes" in schema.names:
        for facts, row, first in zip(columns, part, layouts[: len(part)].tolist(), strict=True):
            digest = hashlib.sha256(row.layout).hexdigest() if row.layout else ""
            facts |= {"layout_offset": first, "layout_bytes": len(row.layout), "layout_sha256": digest}
    return pa.Table.from_pylist(columns, schema=schema)
